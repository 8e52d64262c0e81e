package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
)

type bulkReportsCmd struct {
	someTask
	Results      bool   `help:"Print the lines that were registered, with their things and certificates, in place of those that were not."`
	Raw          bool   `help:"Print the lines of the report as they are, JSON."`
	Out          string `help:"Download both reports into this folder, TASK-errors.json and TASK-results.json, in place of printing." type:"path" placeholder:"DIR" xor:"what"`
	Certificates string `help:"Write the certificates into this folder, each as THING.pem, in place of printing." type:"path" placeholder:"DIR" xor:"what"`
}

// Words of AWS for the reports.
const (
	bulkErrors  = "ERRORS"
	bulkResults = "RESULTS"
)

func (c *bulkReportsCmd) Run(ctx context.Context) error {
	cl, task, err := c.find(ctx)
	if err != nil {
		return err
	}
	kind := bulkErrors
	if c.Results {
		kind = bulkResults
	}
	switch {
	case c.Out != "":
		return errors.Join(downloadBulk(ctx, cl, task.TaskID, bulkErrors, c.Out), downloadBulk(ctx, cl, task.TaskID, bulkResults, c.Out))
	case c.Certificates != "":
		return writeCertificates(ctx, cl, task.TaskID, c.Certificates)
	case c.Raw:
		return toOutput(os.Stdout, func(w io.Writer) error {
			return eachReported(ctx, cl, task.TaskID, kind, func(line []byte) error { _, err := w.Write(line); return err })
		})
	case c.Results:
		return toOutput(os.Stdout, func(w io.Writer) error {
			return eachOutcome(ctx, cl, task.TaskID, kind, func(o bulkOutcome) error {
				_, err := fmt.Fprintf(w, "line %d: thing %s, certificate %s\n", o.LineNumber, o.resource("thing"), o.resource("cert"))
				return err
			})
		})
	}
	return printBulkErrors(ctx, cl, task.TaskID, 0)
}

// toOutput gathers what is written.
func toOutput(out io.Writer, write func(io.Writer) error) error {
	w := bufio.NewWriter(out)
	return errors.Join(write(w), w.Flush())
}

// A bulkOutcome is a line of a report.
type bulkOutcome struct {
	LineNumber int64
	Response   struct {
		CertificatePem string
		ResourceArns   map[string]string
		Error          struct{ Code, Message string }
	}
}

// resource is the name of the thing or cert that a line has made, "" if there is none.
func (o bulkOutcome) resource(kind string) string {
	for _, arn := range o.Response.ResourceArns {
		if part := strings.SplitN(arn, ":", 6); len(part) == 6 {
			if name, ok := strings.CutPrefix(part[5], kind+"/"); ok {
				return name
			}
		}
	}
	return ""
}

var errEnough = errors.New("enough lines")

// eachReported gives the lines of a report as they are. None is an error while there is none.
func eachReported(ctx context.Context, cl *client.Client, task, kind string, use func(line []byte) error) error {
	var out struct{ ResourceLinks []string }
	if err := cl.REST(ctx, "iot", http.MethodGet, bulkPath+"/"+url.PathEscape(task)+"/reports?reportType="+kind, nil, &out); err != nil {
		return err
	}
	for _, link := range out.ResourceLinks {
		if err := eachLineAt(ctx, cl, link, use); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return fmt.Errorf("the report %s of %s: %w", kind, task, err)
		}
	}
	return nil
}

func eachLineAt(ctx context.Context, cl *client.Client, link string, use func(line []byte) error) error {
	body, err := cl.Download(ctx, link)
	if err != nil {
		return err
	}
	defer body.Close()
	for in := bufio.NewReader(body); ; {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if err := use(line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func eachOutcome(ctx context.Context, cl *client.Client, task, kind string, use func(bulkOutcome) error) error {
	return eachReported(ctx, cl, task, kind, func(line []byte) error {
		var o bulkOutcome
		if err := json.Unmarshal(line, &o); err != nil {
			return err
		}
		return use(o)
	})
}

// printBulkErrors says which lines were not registered, most of them at most; 0: all.
func printBulkErrors(ctx context.Context, cl *client.Client, task string, most int) error {
	return toOutput(os.Stdout, func(w io.Writer) error {
		n := 0
		return eachOutcome(ctx, cl, task, bulkErrors, func(o bulkOutcome) error {
			if n++; most > 0 && n > most {
				return errEnough
			}
			_, err := fmt.Fprintf(w, "line %d: %s: %s\n", o.LineNumber, o.Response.Error.Code, o.Response.Error.Message)
			return err
		})
	})
}

// downloadBulk writes a report into a folder.
func downloadBulk(ctx context.Context, cl *client.Client, task, kind, dir string) error {
	lines := 0
	path := filepath.Join(dir, task+"-"+strings.ToLower(kind)+".json")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	err = toOutput(file, func(w io.Writer) error {
		return eachReported(ctx, cl, task, kind, func(line []byte) error {
			lines++
			_, err := w.Write(line)
			return err
		})
	})
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	fmt.Printf("%s: %d lines\n", path, lines)
	return nil
}

// writeCertificates writes a file for each thing.
func writeCertificates(ctx context.Context, cl *client.Client, task, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := 0
	err := eachOutcome(ctx, cl, task, bulkResults, func(o bulkOutcome) error {
		thing := o.resource("thing")
		if thing == "" || o.Response.CertificatePem == "" {
			return fmt.Errorf("line %d made no thing with a certificate", o.LineNumber)
		}
		if !fleet.ValidRegistryName(thing) { // it becomes the name of a file
			return fmt.Errorf("line %d: %q is no name of a thing", o.LineNumber, thing)
		}
		files++
		return os.WriteFile(filepath.Join(dir, thing+".pem"), []byte(o.Response.CertificatePem), 0o644)
	})
	fmt.Printf("%s: %d certificates\n", dir, files)
	return err
}
