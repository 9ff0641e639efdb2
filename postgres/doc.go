// Package postgres is the record: who holds which name, what was decided, and how far each partition is.
//
// It promises that a batch is written whole or not at all, and only while its fence stands; that what is read to decide
// is one snapshot, of the fence too; that an outcome read back encodes to the bytes it was published with; that every
// call returns within its time, also when Postgres does not answer; and that no writer that was paused in the middle of
// a transaction keeps its successor waiting for longer than a few seconds. It satisfies processor.Record and
// api.Lookup, keeps the routing contract, and brings its tables into being (Migrate).
//
// It needs Postgres 14 or newer, reached directly or through a pooler that keeps a session: settings and prepared
// statements belong to the connection. It knows nothing of Kafka, and nothing but it imports pgx.
package postgres
