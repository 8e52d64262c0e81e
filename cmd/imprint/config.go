package main

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/server"
)

type configCmd struct {
	Show  configShowCmd  `cmd:"" default:"withargs" help:"Print every setting as serve with the same flags would see it, and where it comes from."`
	Check configCheckCmd `cmd:"" help:"Say what is wrong with a configuration file."`
}

type configShowCmd struct{ settings }

// Run prints lines that a configuration file could hold, with the origin as a comment.
func (c *configShowCmd) Run(ctx context.Context, k *kong.Context, from *sources) error {
	for _, w := range from.warnings {
		fmt.Fprintln(os.Stderr, "imprint:", w)
	}
	fixed, running, err := server.FixedSettings(ctx, c.Data)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, flag := range k.Selected().Flags {
		if !from.isSetting(flag.Name) {
			continue
		}
		value, origin := show(flag), from.origin[flag.Name]
		first := flag.Tag.Get("first")
		switch was, known := fixed[flag.Name]; {
		case first == "":
			if origin == "" {
				origin = "default"
			}
		case origin != "" && known && was != value && value != "0":
			origin += ", but it was fixed at first start: " + was
		case origin != "" && !known:
			origin += ", unless it was fixed at an earlier start"
		case origin == "" && known:
			value, origin = was, "fixed at first start"
		case origin == "":
			value, origin = first, "default, unless it was fixed at an earlier start"
		}
		fmt.Fprintf(w, "%s: %s\t# %s\n", flag.Name, quoted(value), origin)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !running {
		fmt.Printf("# No server runs on %s.\n", c.Data)
	}
	return nil
}

func (s *sources) isSetting(name string) bool { return flagNamed(s.table, name) != nil }

func flagNamed(table []*kong.Flag, name string) *kong.Flag {
	for _, f := range table {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// show is the value of a flag as text. Of a secret it shows that there is one; of a URL what masked leaves.
func show(flag *kong.Flag) string {
	v := flag.Target
	text := fmt.Sprint(v.Interface())
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			text = string(b)
		}
	}
	switch {
	case v.IsZero() && v.Kind() != reflect.Bool && flag.Default == "": // not chosen, whatever the type
		return ""
	case v.Kind() == reflect.Slice:
		var items []string
		for i := range v.Len() {
			items = append(items, quoted(fmt.Sprint(v.Index(i).Interface())))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case flag.Tag.Has("secret"):
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			return masked(u)
		}
		return hiddenValue
	}
	return text
}

const hiddenValue = "xxxxx" // as url.URL.Redacted has it

// masked is a URL without what may be secret in it: the password, all of the query but how TLS is used, and the path of a webhook.
func masked(u *url.URL) string {
	query := u.Query()
	for name := range query {
		if name != "sslmode" {
			query[name] = []string{hiddenValue}
		}
	}
	u.RawQuery, u.Fragment = query.Encode(), ""
	if strings.HasPrefix(u.Scheme, "http") && u.Path != "" {
		u.Path, u.RawPath = "/"+hiddenValue, ""
	}
	return u.Redacted()
}

var plain = fleet.NewPattern(`^([A-Za-z0-9/_.+][A-Za-z0-9/_.+:@-]*[A-Za-z0-9/_.+-]|[A-Za-z0-9.]|\[.*\])?$`)

// quoted is a value as YAML would read it back.
func quoted(text string) string {
	if plain.MatchString(text) {
		return text
	}
	return strconv.Quote(text)
}

type configCheckCmd struct {
	File string `arg:"" help:"Configuration file." type:"path"`
}

func (c *configCheckCmd) Run(k *kong.Context) error {
	table := tableOf(k.Model)
	f, err := readConfig(c.File, names(table))
	if err != nil {
		return err
	}
	var errs []error
	for _, flag := range table {
		if v, ok := f.values[flag.Name]; ok {
			errs = append(errs, v.check(flag))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("%s is fine: %d settings.\n", c.File, len(f.values))
	return nil
}
