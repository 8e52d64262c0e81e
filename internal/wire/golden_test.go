package wire

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files' answers")

// Each golden file is a request as it travels, and below it what the handler saw and what went back.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(file, "testdata/"), ".txt"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			request, want, _ := strings.Cut(string(raw), "\n-- input --\n")
			got := play(t, request)
			if *update {
				if err := os.WriteFile(file, []byte(request+"\n-- input --\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func play(t *testing.T, request string) string {
	t.Helper()
	head, body, _ := strings.Cut(request, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	head += fmt.Sprintf("\nHost: localhost\nContent-Length: %d\n\n", len(body))
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "\n", "\r\n") + body)))
	if err != nil {
		t.Fatal(err)
	}
	f, s := newFrontend(io.Discard)
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)

	var b strings.Builder
	b.WriteString(shown(s.input))
	if s.access != nil {
		fmt.Fprintf(&b, "%+v\n", *s.access)
	}
	fmt.Fprintf(&b, "-- answer --\n%d\n", w.Code)
	h := w.Header()
	id := h.Get("X-Amzn-Requestid")
	for _, k := range slices.Sorted(maps.Keys(h)) {
		switch k {
		case "X-Amzn-Requestid", "Date", "Cache-Control", "Content-Length", "Vary":
		default:
			if !strings.HasPrefix(k, "Access-Control") {
				fmt.Fprintf(&b, "%s: %s\n", k, h.Get(k))
			}
		}
	}
	b.WriteString("\n" + strings.TrimSuffix(strings.ReplaceAll(w.Body.String(), id, "REQUEST-ID"), "\n") + "\n")
	return b.String()
}

// shown writes an input as JSON, secrets hidden.
func shown(in any) string {
	switch in := in.(type) {
	case nil:
		return "(no handler was called)\n"
	case string:
		return in + "\n"
	}
	v := reflect.ValueOf(in).Elem()
	return string(appendJSON(nil, newCodec(testShapes).plan(v.Type(), ""), v, nil)) + "\n"
}
