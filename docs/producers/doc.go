// Package producers has what docs/producers.md shows: a producer in each of three languages, and the vectors that they and
// others are tested on. Its tests promise that the page shows the programs as they are; that these work is shown in app.
package producers

//go:generate sh -c "go run ../../cmd/dibs vectors --spaces spaces.yaml --partitions 7,12,48 >vectors.jsonl.new && mv vectors.jsonl.new vectors.jsonl"
