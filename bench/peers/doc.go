// Package peers is what people would pick instead of dibs, or what bounds it, for package bench to measure beside it: each
// decides who gets a name, on the same machine, with the same Kafka and Postgres.
//
// It promises that every peer is correct (a name has one owner, and whoever asks for it after that is told so; only the
// echo decides nothing), that each is set up as somebody who knows it well would, that a peer costs next to nothing while it
// is not measured, and that Close leaves no topic, schema, process or file behind. What cannot run here is left out, and Left
// says why. README.md has the settings of each.
package peers
