package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/dibs-hq/dibs/registrations"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	fetchapi "github.com/segmentio/kafka-go/protocol/fetch"
)

// committed reads a topic as dibs does, one long-polling request per leader for all its partitions, but only what is
// committed: kafka-go leaves the records of aborted transactions in.
type committed struct {
	transport *kafkago.Transport
	addr      net.Addr
	log       *slog.Logger
	topic     string
	next      map[int32]int64
	take      func(partition int32, value []byte)
}

// tailCommitted is tail for answers that count when their transaction is committed. The topic is new: it is read from its
// start.
func (w *wires) tailCommitted(ctx context.Context, o *opening, read func(value []byte) registrations.Type) error {
	topic := w.client.Registrations()
	transport := &kafkago.Transport{MetadataTopics: []string{topic}, MetadataTTL: time.Second, ClientID: "dibs-bench", DialTimeout: 3 * time.Second}
	addr := kafkago.TCP(o.Brokers...)
	client := &kafkago.Client{Addr: addr, Transport: transport, Timeout: 10 * time.Second}
	o.onClose(func(context.Context) error { // before the wires are closed, which ends its users
		transport.CloseIdleConnections()
		return nil
	})
	meta, err := client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return fmt.Errorf("find the leaders of %s: %w", topic, err)
	}
	leaders := make(map[int]*committed)
	for _, t := range meta.Topics {
		for _, p := range t.Partitions {
			c := leaders[p.Leader.ID]
			if c == nil {
				c = &committed{
					transport: transport, addr: addr, log: o.Log, topic: topic, next: make(map[int32]int64),
					take: func(partition int32, value []byte) { w.deliver(partition, value, read) },
				}
				leaders[p.Leader.ID] = c
			}
			c.next[int32(p.ID)] = 0
		}
	}
	for _, c := range leaders {
		w.run(c.run)
	}
	return nil
}

// run reads until ctx ends. A leader that moves is no concern of a benchmark: it is asked until it answers again.
func (c *committed) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := c.fetch(ctx); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "answers cannot be read; trying again", "topic", c.topic, "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

const fetchWait = 500 * time.Millisecond

func (c *committed) fetch(ctx context.Context) error {
	partitions := make([]fetchapi.RequestPartition, 0, len(c.next))
	for p, offset := range c.next {
		partitions = append(partitions, fetchapi.RequestPartition{
			Partition: p, CurrentLeaderEpoch: -1, FetchOffset: offset, LogStartOffset: -1, PartitionMaxBytes: 1 << 20,
		})
	}
	ctx, cancel := context.WithTimeout(ctx, fetchWait+5*time.Second)
	defer cancel()
	response, err := c.transport.RoundTrip(ctx, c.addr, &fetchapi.Request{
		ReplicaID: -1, MaxWaitTime: int32(fetchWait.Milliseconds()), MinBytes: 1, MaxBytes: 4 << 20,
		IsolationLevel: int8(kafkago.ReadCommitted), SessionEpoch: -1,
		Topics: []fetchapi.RequestTopic{{Topic: c.topic, Partitions: partitions}},
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range response.(*fetchapi.Response).Topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if p.ErrorCode != 0 {
				errs = append(errs, fmt.Errorf("partition %d: %w", p.Partition, kafkago.Error(p.ErrorCode)))
			} else if err := c.read(p); err != nil {
				errs = append(errs, fmt.Errorf("partition %d: %w", p.Partition, err))
			}
		}
	}
	return errors.Join(errs...)
}

// read hands on the records of committed transactions. The broker gives none of open ones, and says which it gives were
// aborted: from where on, by producer. It is over with the abortion's marker.
func (c *committed) read(p *fetchapi.ResponsePartition) error {
	stream, ok := p.RecordSet.Records.(*protocol.RecordStream)
	if !ok {
		return nil
	}
	aborted := make(map[int64]bool)
	for _, batch := range stream.Records {
		switch b := batch.(type) {
		case *protocol.ControlBatch:
			marker, err := b.ReadControlRecord()
			if err != nil {
				return fmt.Errorf("read a transaction's marker: %w", err)
			}
			delete(aborted, b.ProducerID)
			for i := 0; marker.Type == abortMarker && i < len(p.AbortedTransactions); i++ {
				if t := &p.AbortedTransactions[i]; t.ProducerID == b.ProducerID && t.FirstOffset <= b.BaseOffset {
					t.FirstOffset = 1<<63 - 1 // it is over
					break
				}
			}
			c.next[p.Partition] = max(c.next[p.Partition], b.BaseOffset+1)
		case *protocol.RecordBatch:
			for _, t := range p.AbortedTransactions {
				if t.ProducerID == b.ProducerID && t.FirstOffset <= b.BaseOffset {
					aborted[b.ProducerID] = true
				}
			}
			if err := c.records(p.Partition, b, b.Attributes.Transactional() && aborted[b.ProducerID]); err != nil {
				return err
			}
		}
	}
	return nil
}

// abortMarker is the type of the control record that ends a transaction which was aborted.
const abortMarker = 0

// records hands on what of a batch has not been read before, unless it is void.
func (c *committed) records(partition int32, b *protocol.RecordBatch, void bool) error {
	for {
		r, err := b.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a record: %w", err)
		}
		value, err := protocol.ReadAll(r.Value)
		if r.Key != nil {
			_ = r.Key.Close()
		}
		if r.Value != nil {
			_ = r.Value.Close()
		}
		if err != nil {
			return fmt.Errorf("read a record: %w", err)
		}
		if r.Offset < c.next[partition] {
			continue
		}
		c.next[partition] = r.Offset + 1
		if !void {
			c.take(partition, value)
		}
	}
}
