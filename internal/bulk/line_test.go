package bulk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
)

func reader(text string) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(strings.NewReader(text), 16)}
}

func TestLinesEndAnyhow(t *testing.T) {
	t.Parallel()
	in := reader("one\r\n\n" + strings.Repeat("x", maxLine+1) + "\nfour and more than a buffer\nlast")
	for i, want := range []struct {
		text string
		long bool
	}{{"one", false}, {"", false}, {"", true}, {"four and more than a buffer", false}, {"last", false}} {
		text, long, err := in.next()
		if err != nil || string(text) != want.text || long != want.long || in.line != int64(i+1) {
			t.Errorf("line %d: %q %v %v", i+1, text, long, err)
		}
	}
	if _, _, err := in.next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last line: %v", err)
	}
	if want := int64(5 + 1 + maxLine + 2 + 28 + 4); in.at != want {
		t.Errorf("at %d, want %d", in.at, want)
	}
}

func TestTheEndOfALineDoesNotCount(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("x", maxLine)
	in := reader(full + "\n" + full + "\r\n" + full + "x\n" + full + "x\r\n" + full)
	for i, want := range []bool{false, false, true, true, false} {
		text, long, err := in.next()
		if err != nil || long != want || !long && len(text) != maxLine || long && len(text) > 0 {
			t.Errorf("line %d: %d bytes, %v, %v", i+1, len(text), long, err)
		}
	}
}

func TestALineIsAnObjectOfTexts(t *testing.T) {
	t.Parallel()
	if got, err := parseLine([]byte("\xef\xbb\xbf{\"A\": \"x\", \"B\": \"\"}")); err != nil || len(got) != 2 || got["A"] != "x" {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", "null", "[]", `"x"`, `{"A": 1}`, `{"A": null}`, `{"A": {"B": "x"}}`, `{"A": "x"} {}`, `{"A": "x"`} {
		if got, err := parseLine([]byte(text)); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestReportsHaveTheShapeThatScriptsRead(t *testing.T) {
	t.Parallel()
	good := reportGood(7, &provision.InlineResult{CertificatePEM: "PEM", ResourceARNs: map[string]string{"thing": "arn"}})
	if want := `{"lineNumber":7,"offset":7,"response":{"CertificatePem":"PEM","ResourceArns":{"thing":"arn"}}}` + "\n"; good != want {
		t.Errorf("got %s", good)
	}
	for want, err := range map[string]error{"InvalidRequestException": fleet.Invalid("", "", "no"), "UnauthorizedException": fleet.Denied("no"),
		"ResourceRegistrationFailureException": fleet.Invalid("", "", "no").WithCode("ResourceRegistrationFailureException")} {
		if got := reportBad(3, err); got != `{"lineNumber":3,"offset":3,"response":{"Error":{"Code":"`+want+`","Message":"no"}}}`+"\n" {
			t.Errorf("got %s", got)
		}
	}
}

// FuzzLine holds what is read to what is written: a line that is taken for parameters is one JSON object, and its end is where it was.
func FuzzLine(f *testing.F) {
	for _, text := range []string{`{"A": "x"}`, "{}\n{}", "\r\n\n", `{"A": 1}`, "null", "\xef\xbb\xbf{}", "{\"A\"", "x\n" + strings.Repeat("y", 100), `{"A": "x"} `, "\xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		in := &lineReader{in: bufio.NewReaderSize(bytes.NewReader(input), 16)}
		var at int64
		for {
			text, long, err := in.next()
			if err != nil {
				break
			}
			if long || in.at <= at || in.at > int64(len(input)) || bytes.ContainsRune(text, '\n') || !bytes.HasPrefix(input[at:], text) {
				t.Fatalf("%q: line %d is %q, up to %d", input, in.line, text, in.at)
			}
			at = in.at
			if params, err := parseLine(text); err == nil {
				var again map[string]string
				if back, err := json.Marshal(params); err != nil || json.Unmarshal(back, &again) != nil || len(again) != len(params) {
					t.Fatalf("%q is read as %q", text, params)
				}
			}
		}
		if at != int64(len(input)) {
			t.Fatalf("%q: only %d bytes", input, at)
		}
	})
}
