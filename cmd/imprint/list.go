package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
)

// printPages prints a list of our own API as a table. print writes what a page holds, cells with tabs between, and returns the
// token of the next page, "" after the last. path may have a query already; limit is the length of a page.
func printPages[Page any](ctx context.Context, from place, path string, limit int, print func(io.Writer, Page) (next string)) error {
	cl, err := from.client()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	joint := "?"
	if strings.Contains(path, "?") {
		joint = "&"
	}
	query := url.Values{"maxResults": {strconv.Itoa(limit)}}
	for {
		var page Page
		if err := cl.REST(ctx, "imprint", http.MethodGet, path+joint+query.Encode(), nil, &page); err != nil {
			return err
		}
		next := print(w, page)
		if err := w.Flush(); err != nil || next == "" {
			return err
		}
		query.Set("nextToken", next)
	}
}
