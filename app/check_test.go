package app_test

import (
	"context"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/dibstest/checker"
	"github.com/dibs-hq/dibs/dibstest/checker/load"
	"github.com/segmentio/kafka-go"
)

// history is what the deployment has left: the topics, the tables, and what clients were told.
func (d *deployment) history() checker.History {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	transport := &kafka.Transport{MetadataTTL: time.Second}
	defer transport.CloseIdleConnections()
	keys, err := auth.ReadRequestKeys(d.keys)
	if err != nil {
		d.t.Fatal(err)
	}
	secret, err := auth.ReadErasureSecret(d.eraser)
	if err != nil {
		d.t.Fatal(err)
	}
	h, err := load.History(ctx, load.Config{
		Kafka:  &kafka.Client{Addr: kafka.TCP(d.kafka.Addrs...), Transport: transport, Timeout: 10 * time.Second},
		Claims: d.topic.claims, Registrations: d.topic.registrations, DeadLetters: d.topic.letters,
		DSN: d.database.DSN, Schema: d.database.Schema, Secrets: keys.All, Erasure: secret,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.mu.Lock()
	h.Answers = slices.Clone(d.answers)
	d.mu.Unlock()
	return h
}

// check has the independent checker judge all that the deployment has left, when everything is settled.
func (d *deployment) check() { d.t.Helper(); d.judge(d.history()) }

// judge fails the test for every promise that a history of the deployment breaks.
func (d *deployment) judge(h checker.History) {
	d.t.Helper()
	broken := checker.Check(h)
	for i, v := range broken {
		if i == 20 {
			d.t.Errorf("and %d more", len(broken)-i)
			break
		}
		d.t.Error(v)
	}
	d.t.Logf("checker: %d claims, %d outcomes on the topic, %d decisions, %d names, %d answers of clients: %d violations",
		len(h.Claims), len(h.Registrations), len(h.Decisions), len(h.Names), len(h.Answers), len(broken))
}

// verified has `dibs verify` replay the log and compare what is stored and published with it.
func (d *deployment) verified() {
	d.t.Helper()
	p, code := d.run("verify")
	d.t.Logf("dibs verify: %s", p.output())
	if code != 0 {
		d.t.Errorf("dibs verify: exit code %d\n%s", code, p.errors())
	}
}
