package function

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// An invocation is one event on its way through a worker.
type invocation struct {
	id       string
	payload  []byte
	deadline time.Time
	arn      string
	done     chan answer // has room for one
}

// An answer is what a worker made of an invocation.
type answer struct {
	payload       []byte
	functionError string
}

// failed makes the answer that AWS gives for a function that did not answer by itself.
func failed(kind, format string, args ...any) answer {
	b, _ := json.Marshal(map[string]string{"errorType": kind, "errorMessage": fmt.Sprintf(format, args...)})
	return answer{b, "Unhandled"}
}

const apiRoot = "/2018-06-01/runtime"

// api is the Lambda Runtime API of one worker (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html). What asks is the function
// itself, so nothing in it is trusted: it can spoil its own answer and no other.
func (w *worker) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+apiRoot+"/invocation/next", w.next)
	mux.HandleFunc("POST "+apiRoot+"/invocation/{id}/response", func(rw http.ResponseWriter, r *http.Request) {
		w.answer(rw, r, func(body []byte, err error) answer {
			if err != nil {
				return failed("Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (%d bytes).", MaxPayload)
			}
			return answer{payload: body}
		})
	})
	mux.HandleFunc("POST "+apiRoot+"/invocation/{id}/error", func(rw http.ResponseWriter, r *http.Request) {
		w.answer(rw, r, func(body []byte, err error) answer { return errorAnswer(r, body, err) })
	})
	mux.HandleFunc("POST "+apiRoot+"/init/error", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		told := w.failing
		w.failing = true
		w.mu.Unlock()
		if told {
			reply(rw, http.StatusForbidden, "InvalidStateTransition", "the failure was told before")
			return
		}
		body, err := read(rw, r)
		a := errorAnswer(r, body, err)
		w.mu.Lock()
		w.broken = &a
		w.mu.Unlock()
		reply(rw, http.StatusAccepted, "", "OK")
	})
	return mux
}

// next waits for an invocation. The first call says that the code is loaded.
func (w *worker) next(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	if w.current != nil {
		w.mu.Unlock()
		reply(rw, http.StatusForbidden, "InvalidStateTransition", "the invocation before this one has no answer yet")
		return
	}
	w.mu.Unlock()
	w.once.Do(func() { // before it is given work, and not again
		w.forks = r.Header.Get("Imprint-Worker") == "forks"
		close(w.ready)
	})
	select {
	case inv := <-w.work:
		w.mu.Lock()
		w.current = inv
		w.mu.Unlock()
		h := rw.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", inv.arn)
		h.Set("Lambda-Runtime-Trace-Id", traceID(inv.id))
		h.Set("Content-Length", strconv.Itoa(len(inv.payload)))
		_, _ = rw.Write(inv.payload)
	case <-r.Context().Done():
	case <-w.gone:
	}
}

// traceID has the form of X-Ray's; nothing is sampled.
func traceID(id string) string {
	return "Root=1-" + id[:8] + "-" + id[9:13] + id[14:18] + id[19:23] + id[24:36] + ";Sampled=0"
}

// answer takes the answer to the current invocation; there is one, and only one. Nothing else is read: it would be memory of the
// server's.
func (w *worker) answer(rw http.ResponseWriter, r *http.Request, from func([]byte, error) answer) {
	id := r.PathValue("id")
	w.mu.Lock()
	inv, before := w.current, w.last
	if inv != nil && inv.id == id {
		w.current, w.last = nil, id
	} else {
		inv = nil
	}
	w.mu.Unlock()
	switch {
	case inv == nil && before == id:
		reply(rw, http.StatusForbidden, "InvalidStateTransition", "the invocation has its answer already")
		return
	case inv == nil:
		reply(rw, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return
	}
	body, err := read(rw, r)
	inv.done <- from(body, err)
	if err != nil {
		reply(rw, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", err.Error())
		return
	}
	reply(rw, http.StatusAccepted, "", "OK")
}

// errorAnswer is what the runtime says of a failure: a body of AWS's shape. Without one it is named after the header.
func errorAnswer(r *http.Request, body []byte, err error) answer {
	kind := r.Header.Get("Lambda-Runtime-Function-Error-Type")
	if err != nil || !json.Valid(body) {
		if kind == "" {
			kind = "Runtime.Unknown"
		}
		return failed(kind, "the runtime reported a failure without telling it in JSON")
	}
	if kind == "Handled" {
		return answer{body, "Handled"}
	}
	return answer{body, "Unhandled"}
}

func read(rw http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, MaxPayload))
	if tooLarge := (*http.MaxBytesError)(nil); err != nil && !errors.As(err, &tooLarge) {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return body, err
}

func reply(rw http.ResponseWriter, status int, kind, message string) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	body := map[string]string{"status": message}
	if kind != "" {
		body = map[string]string{"errorType": kind, "errorMessage": message}
	}
	_ = json.NewEncoder(rw).Encode(body)
}
