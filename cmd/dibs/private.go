package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/dibs-hq/dibs/client"
)

// privateKey is the form of a key in a private space.
var privateKey = regexp.MustCompile(`^h[0-9]+:[0-9a-f]{64}$`)

const aboutAddress = `

Addresses are written down on the way, so the value of a private space is in none: where --space is another one than
username, the key is looked up first, and what is printed has the key. That takes an API key with the scope lookup, unless
the key (h1:…, as dibs lookup prints it) is given in place of the value, or --plain says that the space is no private one.`

const plainUsage = "the space is not private: the name may be in an address"

// inAddress is what stands for a name in the address of a request. Whether a space is private is for the API to say: it is
// asked in a body.
func inAddress(ctx context.Context, c *client.Client, space, name string, plain bool) (string, error) {
	if plain || space == "" || space == "username" || privateKey.MatchString(name) {
		return name, nil
	}
	k, err := c.Lookup(ctx, space, name, nil)
	var p *client.Problem
	switch {
	case errors.As(err, &p) && p.Status == http.StatusForbidden:
		return "", fmt.Errorf("the space %s may be private, and then the value may be in no address: give its key, as dibs lookup prints it, "+
			"or use an API key with the scope lookup; --plain says that the space is not private: %w", oneLine(space), err)
	case err != nil:
		return "", err
	case privateKey.MatchString(k.Key):
		return k.Key, nil
	}
	return name, nil
}

// fieldsFlag is --field NAME=VALUE, once for each of the fields that are unique together. A value is taken as it is, with
// its commas.
type fieldsFlag map[string]string

func (f *fieldsFlag) String() string { return "" } // no default, and nobody prints what may be private
func (f *fieldsFlag) Type() string   { return "NAME=VALUE" }

func (f *fieldsFlag) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return errors.New("it is not like NAME=VALUE")
	}
	if _, twice := (*f)[name]; twice {
		return fmt.Errorf("the field %s is there twice", oneLine(name))
	}
	if *f == nil {
		*f = make(fieldsFlag)
	}
	(*f)[name] = value
	return nil
}

// composites are --field SPACE/NAME=VALUE of a sign-up: each space's fields are one name, in the order of the first ones.
type composites []client.WantedName

func (c *composites) String() string { return "" }
func (c *composites) Type() string   { return "SPACE/NAME=VALUE" }

func (c *composites) Set(text string) error {
	space, field, ok := strings.Cut(text, "/")
	if !ok || space == "" || strings.Contains(space, "=") {
		return errors.New("it is not like SPACE/NAME=VALUE")
	}
	for i := range *c {
		if (*c)[i].Space == space {
			return (*fieldsFlag)(&(*c)[i].Fields).Set(field)
		}
	}
	var fields fieldsFlag
	if err := fields.Set(field); err != nil {
		return err
	}
	*c = append(*c, client.WantedName{Space: space, Fields: fields})
	return nil
}
