package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/client"
)

type tableCmd struct {
	Put    tablePutCmd    `cmd:"" help:"Add keys to a table that rules ask, from arguments or a CSV file; makes the table if there is none."`
	List   tableListCmd   `cmd:"" help:"List the tables, or the keys of one."`
	Delete tableDeleteCmd `cmd:"" help:"Delete keys, or a table if none are given."`
}

// keysPerRequest is what the API takes at once.
const keysPerRequest = 1000

func keysPath(table string) string { return "/imprint/tables/" + url.PathEscape(table) }

type tablePutCmd struct {
	place
	Table  string   `arg:"" help:"Name of the table."`
	Keys   []string `arg:"" optional:"" help:"Keys, for example serial numbers."`
	CSV    string   `name:"csv" help:"CSV file with a key in each line; - is standard input." placeholder:"FILE"`
	Column string   `help:"Which column has the keys: its number, or its name in the first line." default:"1" placeholder:"COLUMN"`
}

// Run adds in chunks. Adding twice does no harm, so after a cut the same command goes on.
func (c *tablePutCmd) Run(ctx context.Context) error {
	if c.CSV != "" && len(c.Keys) > 0 {
		return errors.New("give keys or --csv, not both")
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	if err := cl.REST(ctx, "imprint", http.MethodPut, keysPath(c.Table), nil, nil); err != nil {
		return err
	}
	load := &tableLoad{client: cl, path: keysPath(c.Table) + "/keys"}
	if c.CSV == "" {
		for _, key := range c.Keys {
			if err := load.add(ctx, key); err != nil {
				return err
			}
		}
		return load.finish(ctx, c.Table)
	}
	in, size := os.Stdin, int64(0)
	if c.CSV != "-" {
		if in, err = os.Open(c.CSV); err != nil {
			return err
		}
		defer in.Close()
		if info, err := in.Stat(); err == nil {
			size = info.Size()
		}
	}
	bar := newProgress(size, "keys")
	keys := newKeyReader(in, c.Column)
	for {
		key, err := keys.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = load.add(ctx, key)
		}
		if err != nil {
			bar.end()
			return fmt.Errorf("%w (%d keys were sent before; the same command goes on)", err, load.sent)
		}
		bar.show(keys.read(), int64(load.sent))
	}
	err = load.finish(ctx, c.Table)
	bar.end()
	return err
}

// tableLoad sends keys to a table, many at a time.
type tableLoad struct {
	client      *client.Client
	path        string
	waiting     []string
	sent, added int
}

func (l *tableLoad) add(ctx context.Context, key string) error {
	if l.waiting = append(l.waiting, key); len(l.waiting) < keysPerRequest {
		return nil
	}
	return l.send(ctx)
}

func (l *tableLoad) send(ctx context.Context) error {
	if len(l.waiting) == 0 {
		return nil
	}
	var out struct{ Added, Removed int }
	if err := l.client.REST(ctx, "imprint", http.MethodPost, l.path, map[string]any{"keys": l.waiting}, &out); err != nil {
		return err
	}
	l.sent, l.added, l.waiting = l.sent+len(l.waiting), l.added+out.Added+out.Removed, l.waiting[:0]
	return nil
}

func (l *tableLoad) finish(ctx context.Context, table string) error {
	if err := l.send(ctx); err != nil {
		return err
	}
	fmt.Printf("%d keys, %d of them new in %s\n", l.sent, l.added, table)
	return nil
}

// A keyReader reads the keys out of a CSV file. Space around a key and empty keys are left out.
type keyReader struct {
	csv    *csv.Reader
	name   string // of the column, looked for in the first line; "" once it is found
	column int
}

// byteOrderMark begins the files of some spreadsheets.
const byteOrderMark = "\ufeff"

func newKeyReader(in io.Reader, column string) *keyReader {
	b := bufio.NewReader(in)
	if first, err := b.Peek(len(byteOrderMark)); err == nil && string(first) == byteOrderMark {
		_, _ = b.Discard(len(byteOrderMark))
	}
	k := &keyReader{csv: csv.NewReader(b)}
	k.csv.FieldsPerRecord, k.csv.ReuseRecord = -1, true
	n, err := strconv.Atoi(column)
	if k.column = n - 1; err != nil || n < 1 {
		k.name = column
	}
	return k
}

// read is how many bytes of the file were read.
func (k *keyReader) read() int64 { return k.csv.InputOffset() }

// next returns the next key, io.EOF at the end.
func (k *keyReader) next() (string, error) {
	for {
		record, err := k.csv.Read()
		if err != nil {
			return "", err
		}
		if k.name != "" {
			header := make([]string, len(record))
			for i, field := range record {
				header[i] = strings.TrimSpace(field)
			}
			if k.column = slices.Index(header, k.name); k.column < 0 {
				return "", fmt.Errorf("the first line has no column %s: it has %s", k.name, strings.Join(header, ", "))
			}
			k.name = ""
			continue
		}
		if k.column >= len(record) {
			line, _ := k.csv.FieldPos(0)
			return "", fmt.Errorf("line %d has %d columns, and the keys should be in column %d", line, len(record), k.column+1)
		}
		if key := strings.TrimSpace(record[k.column]); key != "" {
			return strings.Clone(key), nil
		}
	}
}

type tableListCmd struct {
	place
	Table string `arg:"" optional:"" help:"Table whose keys to list."`
}

func (c *tableListCmd) Run(ctx context.Context) error {
	type page struct {
		Tables []struct {
			Name string
			Keys int
		}
		Keys      []string
		NextToken string
	}
	path, limit := "/imprint/tables", 100
	if c.Table != "" {
		path, limit = keysPath(c.Table)+"/keys", keysPerRequest
	}
	return printPages(ctx, c.place, path, limit, func(w io.Writer, p page) string {
		for _, t := range p.Tables {
			fmt.Fprintf(w, "%s\t%d keys\n", t.Name, t.Keys)
		}
		for _, key := range p.Keys {
			fmt.Fprintln(w, key)
		}
		return p.NextToken
	})
}

type tableDeleteCmd struct {
	place
	Table string   `arg:"" help:"Name of the table."`
	Keys  []string `arg:"" optional:"" help:"Keys to delete; without them the whole table goes, and rules that ask it refuse every device."`
}

func (c *tableDeleteCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if len(c.Keys) == 0 {
		return cl.REST(ctx, "imprint", http.MethodDelete, keysPath(c.Table), nil, nil)
	}
	load := &tableLoad{client: cl, path: keysPath(c.Table) + "/delete-keys"}
	for _, key := range c.Keys {
		if err := load.add(ctx, key); err != nil {
			return err
		}
	}
	if err := load.send(ctx); err != nil {
		return err
	}
	fmt.Printf("%d keys deleted from %s\n", load.added, c.Table)
	return nil
}
