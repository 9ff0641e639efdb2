package claims_test

import (
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

// What a record costs on its way through a processor: see also the benchmarks of registrations and processor.

func BenchmarkRead(b *testing.B) {
	for name, claim := range map[string]*claims.UsernameClaimed{"minimal": minimal(), "full": full()} {
		record := claim.Record(event(), alice)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := claims.Read(record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHash(b *testing.B) {
	policies := names.Builtin()
	for name, claim := range map[string]*claims.UsernameClaimed{"minimal": minimal(), "full": full()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				claim.Hash(alice, "gateway", policies)
			}
		})
	}
}

func BenchmarkRecord(b *testing.B) {
	for name, claim := range map[string]*claims.UsernameClaimed{"minimal": minimal(), "full": full()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				claim.Record(event(), alice)
			}
		})
	}
}

func BenchmarkPartition(b *testing.B) {
	for b.Loop() {
		claims.Partition("username/raymond.richardson96", 12)
	}
}

// What signing adds: to a request of the API as it is written, and where a signature is looked at as it is read.
func BenchmarkSign(b *testing.B) {
	record, key := minimal().Record(event(), alice), activationKey
	keys := claims.Keys{key.ID: key.Secret}
	b.Run("Record", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			key.Sign(minimal().Record(event(), alice))
		}
	})
	b.Run("Sign", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			key.Sign(record)
		}
		b.ReportMetric(float64(key.Sign(record).Size()-record.Size()), "bytes/record")
	})
	signed := key.Sign(record)
	b.Run("Signed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !keys.Signed(signed) {
				b.Fatal("it is not")
			}
		}
	})
}
