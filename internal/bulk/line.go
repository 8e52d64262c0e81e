package bulk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
)

// maxLine is how long a line may be, in bytes (provisioning spec 8).
const maxLine = 256 << 10

// A lineReader reads lines, and knows how far it has come.
type lineReader struct {
	in   *bufio.Reader
	at   int64 // bytes
	line int64 // number of the line that was read last, from 1
}

// next returns the next line without its end; long if it is longer than maxLine, and then without its text. The error is io.EOF behind
// the last line.
func (r *lineReader) next() (text []byte, long bool, err error) {
	for {
		piece, err := r.in.ReadSlice('\n')
		r.at += int64(len(piece))
		if long = long || len(text)+len(piece) > maxLine+len("\r\n"); long {
			text = nil
		} else {
			text = append(text, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(text) > 0 || long):
			err = nil
		}
		if err != nil {
			return nil, false, err
		}
		r.line++
		if text = bytes.TrimRight(text, "\r\n"); len(text) > maxLine {
			return nil, true, nil
		}
		return text, long, nil
	}
}

// parseLine reads the parameters of a device: a JSON object of texts. A mark of byte order before the first line is nothing.
func parseLine(text []byte) (map[string]string, error) {
	var values map[string]any
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &values); err != nil || values == nil {
		return nil, fleet.Invalid("", "", "The line is not a JSON object of parameters, such as {\"ThingName\": \"lamp-1\"}: %s", cause(err))
	}
	out := make(map[string]string, len(values))
	for name, v := range values {
		s, ok := v.(string)
		if !ok {
			return nil, fleet.Invalid("", "", "The parameter %.100s is no text: put its value into quotes", name)
		}
		out[name] = s
	}
	return out, nil
}

func cause(err error) string {
	if err == nil {
		return "it is null"
	}
	return err.Error()
}

// blank reports whether a line has nothing in it: such lines are passed over.
func blank(text []byte) bool { return len(bytes.TrimSpace(text)) == 0 }

// An outcome is a line of a report (provisioning spec 8): its response is of a success or of an error.
type outcome struct {
	LineNumber int64 `json:"lineNumber"`
	Offset     int64 `json:"offset"`
	Response   any   `json:"response"`
}

type success struct {
	CertificatePem string            `json:",omitempty"`
	ResourceArns   map[string]string `json:""`
}

type failure struct {
	Error struct{ Code, Message string }
}

func report(line int64, response any) string {
	text, err := json.Marshal(outcome{line, line, response})
	if err != nil {
		panic("bulk: " + err.Error()) // only our own types come here
	}
	return string(text) + "\n"
}

func reportGood(line int64, r *provision.InlineResult) string {
	return report(line, success{r.CertificatePEM, r.ResourceARNs})
}

// codes of errors that have none of their own.
var codes = map[fleet.Kind]string{fleet.KindInvalid: "InvalidRequestException", fleet.KindDenied: "UnauthorizedException", fleet.KindUnauthenticated: "UnauthorizedException"}

// reportBad words an error of a line; it must be one that is the line's fault.
func reportBad(line int64, err error) string {
	var f failure
	var e *fleet.Error
	errors.As(err, &e)
	f.Error.Message = strings.ToValidUTF8(sentence(err), "?")
	if f.Error.Code = "ResourceRegistrationFailureException"; e != nil && e.Code != "" {
		f.Error.Code = e.Code
	} else if code := codes[fleet.KindOf(err)]; code != "" {
		f.Error.Code = code
	}
	return report(line, f)
}

// ours reports whether an error is not the line's fault: then the line is tried again, and not reported.
func ours(err error) bool {
	k := fleet.KindOf(err)
	return k == fleet.KindInternal || k == fleet.KindUnavailable || k == fleet.KindThrottled
}
