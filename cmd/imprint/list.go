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

	"github.com/imprint-iot/imprint/internal/client"
)

// printPages prints a list of our own API as a table. print writes what a page holds, cells with tabs between, and returns the
// token of the next page, "" after the last. path may have a query already; limit is the length of a page.
func printPages[Page any](ctx context.Context, from place, path string, limit int, print func(io.Writer, Page) (next string)) error {
	cl, err := from.client()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	return eachPage(ctx, cl, path, limit, func(page Page) (string, error) {
		next := print(w, page)
		return next, w.Flush()
	})
}

// eachPage fetches a list of our own API. use gets one page after the other and returns the token of the next, "" to end. path may
// have a query already; limit is the length of a page.
func eachPage[Page any](ctx context.Context, cl *client.Client, path string, limit int, use func(Page) (next string, err error)) error {
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
		next, err := use(page)
		if err != nil || next == "" {
			return err
		}
		query.Set("nextToken", next)
	}
}

// shortID is enough of a certificate's id for `imprint explain` and people.
func shortID(id string) string {
	if len(id) > 16 {
		return id[:16] + "…"
	}
	return id
}
