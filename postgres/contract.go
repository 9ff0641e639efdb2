package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Contract is what routing relies on: names are hashed over this many partitions of this topic of this cluster.
type Contract struct {
	Topic      string
	ClusterID  string // empty where the cluster does not say
	Partitions int
}

// ContractError says that what is there is not what was pinned. The pinned contract stands.
type ContractError struct{ Pinned, Found Contract }

func (e *ContractError) Error() string {
	switch {
	case e.Pinned.Topic != e.Found.Topic:
		return fmt.Sprintf("the record is that of topic %s, not of %s: one schema is one deployment", e.Pinned.Topic, e.Found.Topic)
	case e.Pinned.ClusterID != e.Found.ClusterID:
		return fmt.Sprintf("topic %s was pinned on the Kafka cluster %s, and this is %s", e.Pinned.Topic, e.Pinned.ClusterID, e.Found.ClusterID)
	default:
		return fmt.Sprintf("topic %s was pinned with %d partitions, and has %d", e.Pinned.Topic, e.Pinned.Partitions, e.Found.Partitions)
	}
}

// Grown reports whether all that is different is that there are more partitions than were pinned.
func (e *ContractError) Grown() bool {
	same := e.Found
	same.Partitions = e.Pinned.Partitions
	return same == e.Pinned && e.Found.Partitions > e.Pinned.Partitions
}

// routingHash is the one way in which a key finds its partition.
const routingHash = "murmur2"

// Pinned reads the contract. It reports false where none is pinned yet.
func (r *Record) Pinned(ctx context.Context) (c Contract, is bool, err error) {
	err = r.do(ctx, "read the pinned contract", func(ctx context.Context, conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, `SELECT topic, cluster_id, partitions FROM topics ORDER BY created_at LIMIT 1`).Scan(&c.Topic, &c.ClusterID, &c.Partitions)
		if is = err == nil; errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return c, is, err
}

// Pin pins the contract the first time, and returns the pinned one ever after: with a *ContractError where it is not
// this one. More partitions than were pinned are no harm (routing goes by the pinned count): see Grown. All else is.
func (r *Record) Pin(ctx context.Context, c Contract) (Contract, error) {
	pinned := Contract{Topic: c.Topic}
	err := r.do(ctx, fmt.Sprintf("pin the contract of topic %s", c.Topic), func(ctx context.Context, conn *pgx.Conn) error {
		// One topic for each schema: whoever comes first.
		var hash string
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `LOCK TABLE topics IN SHARE ROW EXCLUSIVE MODE`); err != nil {
				return err
			}
			read := func() error {
				return tx.QueryRow(ctx, `SELECT topic, cluster_id, partitions, hash FROM topics ORDER BY created_at LIMIT 1`).
					Scan(&pinned.Topic, &pinned.ClusterID, &pinned.Partitions, &hash)
			}
			err := read()
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				if _, err := tx.Exec(ctx, `INSERT INTO topics (topic, cluster_id, partitions, hash) VALUES ($1, $2, $3, $4)`,
					c.Topic, c.ClusterID, c.Partitions, routingHash); err != nil {
					return err
				}
				return read()
			case err == nil && pinned.ClusterID == "" && c.ClusterID != "" && pinned.Topic == c.Topic:
				// It did not say then, and does now.
				if _, err := tx.Exec(ctx, `UPDATE topics SET cluster_id = $2 WHERE topic = $1`, c.Topic, c.ClusterID); err != nil {
					return err
				}
				return read()
			}
			return err
		})
		if err == nil && hash != routingHash {
			return fmt.Errorf("%w: keys are routed by %s", ErrSchema, hash)
		}
		return err
	})
	if err != nil {
		return Contract{}, err
	}
	if c.ClusterID == "" {
		c.ClusterID = pinned.ClusterID
	}
	if c != pinned {
		return pinned, &ContractError{Pinned: pinned, Found: c}
	}
	return pinned, nil
}
