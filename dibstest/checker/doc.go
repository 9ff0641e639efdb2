// Package checker says whether a history of dibs keeps the promises of the design: what is on the topics, what is in the
// tables, what clients were told.
//
// It shares no code with what it judges and imports nothing of dibs: it has its own reading of every request, its own
// canonical form, murmur2, request hash, signatures and derived ids, and its own replay of the log, written from the
// design. It knows all requests of the design, the policies that the log activates, rules 1 to 3. Of names beyond ASCII it
// has no tables: History.Forms tells it what they are.
//
// Check takes plain data, so it serves the simulation as well as a real Kafka and Postgres, whose histories package load
// reads.
package checker
