package app

import (
	"context"
	"fmt"
	"time"
)

// keptBeyond is how much longer than the records on claims their decisions are kept at least: whoever reads such a record once
// more, after Postgres was restored from a backup, finds what was decided.
const keptBeyond = 7 * 24 * time.Hour

// retention is how long decisions are kept, 0 for ever. It is refused where claims keeps its records for nearly as long, as far as
// the brokers say.
func (d *Deployment) retention(ctx context.Context) (time.Duration, error) {
	keep := d.Config.Processor.DecisionsRetention
	if keep == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	keeps, err := d.Kafka.Keeps(ctx, d.Kafka.Claims())
	return retained(keep, keeps, err, d.Kafka.Claims(), func(why string) {
		d.log.WarnContext(ctx, why, "decisions_retention", keep, "topic", d.Kafka.Claims(), "err", err)
	})
}

// retained is what becomes of the setting where the topic keeps records for so long, a negative time for ever.
func retained(keep, keeps time.Duration, err error, topic string, warn func(why string)) (time.Duration, error) {
	switch {
	case err != nil:
		warn("how long claims are kept cannot be read: that decisions are kept for longer is not checked")
		return keep, nil
	case keeps < 0:
		warn("claims are kept for ever, so their decisions are too")
		return 0, nil
	case keep < keeps+keptBeyond:
		return 0, fmt.Errorf("processor.decisions_retention is %s: %s keeps a record for up to %s (retention.ms and segment.ms), and its decision must be kept for 7 d more, %s",
			keep, topic, keeps, keeps+keptBeyond)
	}
	return keep, nil
}
