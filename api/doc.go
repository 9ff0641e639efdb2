// Package api is the way in over HTTP: it publishes a claim, or what else is asked about a name, waits for the outcome,
// and answers.
//
// It promises that nothing is published before everything that can be checked without the log is checked, that a ticket
// for the outcome is taken before the request is published, that a wait which runs out is never reported as a failure, and
// that every answer is one that openapi.yaml describes. A Claimer is all of this without HTTP; a Server puts HTTP before
// it.
//
// It decides nothing and keeps nothing. It knows neither Kafka nor Postgres: they are behind the interfaces of ports.go.
package api

//go:generate go tool oapi-codegen -config oapi-codegen.yaml openapi.yaml
