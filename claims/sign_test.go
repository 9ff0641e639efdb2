package claims_test

import (
	"encoding/hex"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"pgregory.net/rapid"
)

// set replaces a header of a copy of the record, or adds it.
func set(r cloudevents.Record, name, value string) cloudevents.Record {
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h cloudevents.Header) bool { return h.Name == name })
	r.Headers = append(r.Headers, cloudevents.Header{Name: name, Value: []byte(value)})
	return r
}

func blocking() cloudevents.Record {
	return claims.NewRecord(requests["block_requested"].body, event(), alice)
}

func TestSigned(t *testing.T) {
	good := signingKey.Sign(blocking())
	text, _ := good.Header(claims.Signature)
	sum := strings.TrimPrefix(string(text), "k2:")
	older := claims.SigningKey{ID: "k1", Secret: signKeys["k1"]}
	with := func(change func(*cloudevents.Record)) cloudevents.Record {
		r := good
		r.Key, r.Value, r.Headers = slices.Clone(r.Key), slices.Clone(r.Value), slices.Clone(r.Headers)
		change(&r)
		return r
	}
	for name, test := range map[string]struct {
		record cloudevents.Record
		want   bool
	}{
		"as it was signed":         {good, true},
		"under the other key":      {older.Sign(blocking()), true},
		"signed anew":              {older.Sign(good), true},
		"unsigned":                 {blocking(), false},
		"another key":              {with(func(r *cloudevents.Record) { r.Key[len(r.Key)-1]++ }), false},
		"no key":                   {with(func(r *cloudevents.Record) { r.Key = nil }), false},
		"another value":            {with(func(r *cloudevents.Record) { r.Value[20]++ }), false},
		"a longer value":           {with(func(r *cloudevents.Record) { r.Value = append(r.Value, ' ') }), false},
		"a byte over to the value": {with(func(r *cloudevents.Record) { r.Value = append(r.Key[13:], r.Value...); r.Key = r.Key[:13] }), false},
		"another id":               {set(good, cloudevents.ID, otherID.String()), false},
		"the id in capitals":       {set(good, cloudevents.ID, strings.ToUpper(claimID.String())), false},
		"another type":             {set(good, cloudevents.Type, claims.TypeUnblockRequested), false},
		"another principal":        {set(good, cloudevents.Principal, "dibs"), false},
		"no principal":             {set(good, cloudevents.Principal, ""), false},
		"another source":           {set(good, cloudevents.Source, "elsewhere"), true},
		"another time":             {set(good, cloudevents.Time, "2027-11-21T10:00:00.123Z"), true},
		"traced":                   {set(good, "traceparent", "00-1-2-00"), true},
		"forwarded":                {set(good, claims.Rerouted, "1"), true},
		"a key that nobody knows":  {set(good, claims.Signature, "k3:"+sum), false},
		"the other key's id":       {set(good, claims.Signature, "k1:"+sum), false},
		"no id of a key":           {set(good, claims.Signature, ":"+sum), false},
		"no colon":                 {set(good, claims.Signature, sum), false},
		"no sum":                   {set(good, claims.Signature, "k2:"), false},
		"a part of the sum":        {set(good, claims.Signature, "k2:"+sum[:62]), false},
		"more than the sum":        {set(good, claims.Signature, "k2:"+sum+"00"), false},
		"no hex":                   {set(good, claims.Signature, "k2:"+sum[:63]+"x"), false},
		"empty":                    {set(good, claims.Signature, ""), false},
		"the first signature holds": {with(func(r *cloudevents.Record) {
			r.Headers = append(r.Headers, cloudevents.Header{Name: claims.Signature, Value: []byte("k2:00")})
		}), true},
	} {
		if got := signKeys.Signed(test.record); got != test.want {
			t.Errorf("%s: signed %v", name, got)
		}
	}
	if claims.Keys(nil).Signed(good) || (claims.Keys{}).Signed(good) || (claims.Keys{"k2": nil}).Signed(good) || (claims.Keys{"k2": []byte("another")}).Signed(good) {
		t.Error("signed without the key")
	}
	// Nobody without a secret can sign for a key that is configured empty by mistake.
	if empty := (claims.SigningKey{ID: "k2"}); (claims.Keys{"k1": signKeys["k1"]}).Signed(empty.Sign(blocking())) {
		t.Error("signed with nothing under an unknown key")
	}
}

// Every bit that the signature is over counts.
func TestSignatureIsOverEveryBit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := signingKey.Sign(claims.NewRecord(drawBody(t), event(), alice))
		if !signKeys.Signed(r) {
			t.Fatal("not signed")
		}
		part := rapid.SampledFrom([]string{"key", "value", cloudevents.ID, cloudevents.Type, cloudevents.Principal, claims.Signature}).Draw(t, "part")
		of := r.Key
		if part == "value" {
			of = r.Value
		} else if part != "key" {
			of, _ = r.Header(part)
		}
		at, bit := rapid.IntRange(0, len(of)-1).Draw(t, "at"), byte(1)<<rapid.IntRange(0, 7).Draw(t, "bit")
		before := of[at]
		of[at] ^= bit
		if part == claims.Signature && strings.EqualFold(string(before), string(of[at])) {
			t.Skip("hex in capitals is the same")
		}
		if signKeys.Signed(r) {
			t.Fatalf("signed, with bit %d of byte %d of the %s turned", bit, at, part)
		}
	})
}

// Signing leaves the record it is given alone, and everything else as it was.
func TestSign(t *testing.T) {
	r := blocking()
	headers := slices.Clone(r.Headers)
	signed := signingKey.Sign(r)
	if !reflect.DeepEqual(r.Headers, headers) || r.Headers[:cap(r.Headers)][len(headers)-1].Name == claims.Signature {
		t.Errorf("the record given has %v", r.Headers)
	}
	if !reflect.DeepEqual(signed.Headers[:len(headers)], headers) || len(signed.Headers) != len(headers)+1 || !reflect.DeepEqual(signed.Value, r.Value) {
		t.Errorf("signed it is %+v", signed)
	}
	again := signingKey.Sign(signed)
	if !reflect.DeepEqual(again, signed) {
		t.Errorf("signed twice it is %+v", again)
	}
	// The sum was computed with another implementation of HMAC.
	const want = "k2:dad1e50deaa8bd44923344a9d4e6b45546c77b499ef50b5b459fd8882419e4e5"
	if got, _ := signed.Header(claims.Signature); string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := hex.DecodeString(strings.TrimPrefix(want, "k2:")); err != nil {
		t.Error(err)
	}
}

// How long a comparison takes must say nothing about the sum: that shows in no output, so the code is read.
func TestSignedComparesInConstantTime(t *testing.T) {
	code, err := os.ReadFile("sign.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(code), "hmac.Equal(claimed, mac(secret, r))") || strings.Contains(string(code), "bytes.Equal") {
		t.Error("sign.go does not compare with hmac.Equal")
	}
}
