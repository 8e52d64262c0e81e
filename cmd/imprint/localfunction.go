package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
)

// Functions that the server runs itself. These verbs use Lambda's own API, as aws lambda does.

const lambdaPath = "/2015-03-31/functions"

func functionPath(name string) string { return lambdaPath + "/" + url.PathEscape(name) }

// codeOptions say where the code of a function is.
type codeOptions struct {
	Folder string `help:"Folder with the code." type:"path" placeholder:"DIR" xor:"code"`
	Zip    string `help:"Zip file with the code." type:"path" placeholder:"FILE" xor:"code"`
}

// read returns the code as a zip file, nil if none is given.
func (o codeOptions) read() ([]byte, error) {
	switch {
	case o.Folder != "":
		return zipFolder(o.Folder)
	case o.Zip != "":
		return os.ReadFile(o.Zip)
	}
	return nil, nil
}

// settingOptions are what create and update share.
type settingOptions struct {
	Env         map[string]string `help:"Environment variables of the function, in place of all that it has." placeholder:"NAME=VALUE" mapsep:"none"`
	Timeout     time.Duration     `help:"How long it may take (default 3s). As a hook it has five seconds, loading its code included." placeholder:"TIME"`
	Memory      int               `help:"MiB of memory (default 128)." placeholder:"MIB"`
	Description string            `help:"What it is for." placeholder:"TEXT"`
}

func (o settingOptions) members() (map[string]any, error) {
	in := map[string]any{}
	if o.Env != nil {
		in["Environment"] = map[string]any{"Variables": o.Env}
	}
	if o.Timeout != 0 {
		if o.Timeout%time.Second != 0 {
			return nil, errors.New("--timeout takes whole seconds")
		}
		in["Timeout"] = int(o.Timeout / time.Second)
	}
	if o.Memory != 0 {
		in["MemorySize"] = o.Memory
	}
	if o.Description != "" {
		in["Description"] = o.Description
	}
	return in, nil
}

type functionCreateCmd struct {
	place
	Name string `arg:"" help:"Name: the ARN is arn:aws:lambda:REGION:ACCOUNT:function:NAME."`
	codeOptions
	Runtime string `help:"What runs it, for example python3.12, nodejs20.x or provided.al2023." required:"" placeholder:"RUNTIME"`
	Handler string `help:"What is called, for example app.lambda_handler." required:"" placeholder:"HANDLER"`
	Role    string `help:"ARN of its role (default: a role imprint-functions without rights, made when it is missing). It calls AWS's APIs here as that role." placeholder:"ARN"`
	Hooks   bool   `help:"Let the templates of this account use it as their hook." default:"true" negatable:""`
	settingOptions
}

func (c *functionCreateCmd) Run(ctx context.Context) error {
	code, err := c.read()
	if err == nil && code == nil {
		err = errors.New("say where the code is: --folder DIR or --zip FILE")
	}
	if err != nil {
		return err
	}
	in, err := c.members()
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	if c.Role == "" {
		if c.Role, err = serviceRole(ctx, cl, "imprint-functions", "lambda.amazonaws.com"); err != nil {
			return fmt.Errorf("making a role for functions (or name one with --role): %w", err)
		}
	}
	for name, value := range map[string]any{"FunctionName": c.Name, "Runtime": c.Runtime, "Handler": c.Handler, "Role": c.Role, "Code": map[string]any{"ZipFile": code}} {
		in[name] = value
	}
	var out struct{ FunctionArn string }
	if err := cl.REST(ctx, "lambda", http.MethodPost, lambdaPath, in, &out); err != nil {
		if client.Code(err) == "ResourceConflictException" {
			err = fmt.Errorf("%w (imprint function update %s changes it)", err, c.Name)
		}
		return err
	}
	if c.Hooks {
		part := strings.Split(out.FunctionArn, ":") // arn:aws:lambda:REGION:ACCOUNT:function:NAME
		if err := cl.REST(ctx, "lambda", http.MethodPost, functionPath(c.Name)+"/policy", map[string]any{"StatementId": "iot", "Action": "lambda:InvokeFunction",
			"Principal": "iot.amazonaws.com", "SourceAccount": part[4], "SourceArn": "arn:aws:iot:" + part[3] + ":" + part[4] + ":*"}, nil); err != nil {
			return fmt.Errorf("the function is there, but hooks may not use it yet: %w", err)
		}
	}
	fmt.Printf("ARN=%s\n", out.FunctionArn)
	return nil
}

type functionUpdateCmd struct {
	place
	Name string `arg:"" help:"Name of the function."`
	codeOptions
	Runtime string `help:"What runs it." placeholder:"RUNTIME"`
	Handler string `help:"What is called." placeholder:"HANDLER"`
	settingOptions
}

// Run changes settings first: new code may need them, and old code seldom minds.
func (c *functionUpdateCmd) Run(ctx context.Context) error {
	code, err := c.read()
	if err != nil {
		return err
	}
	in, err := c.members()
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"Runtime": c.Runtime, "Handler": c.Handler} {
		if value != "" {
			in[name] = value
		}
	}
	if code == nil && len(in) == 0 {
		return errors.New("say what to change: --folder DIR, --zip FILE, or a setting")
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	if len(in) > 0 {
		if err := cl.REST(ctx, "lambda", http.MethodPut, functionPath(c.Name)+"/configuration", in, nil); err != nil {
			return err
		}
	}
	if code == nil {
		return nil
	}
	return cl.REST(ctx, "lambda", http.MethodPut, functionPath(c.Name)+"/code", map[string]any{"ZipFile": code}, nil)
}

type functionInvokeCmd struct {
	place
	Name    string `arg:"" help:"Name of the function."`
	Payload string `help:"Event, as JSON; @FILE reads a file, @- standard input." default:"{}" placeholder:"JSON"`
	Quiet   bool   `help:"Don't print what the function writes."`
}

// Run prints the answer, and what the function wrote on standard error. It fails if the function did.
func (c *functionInvokeCmd) Run(ctx context.Context) error {
	event := []byte(c.Payload)
	if file, ok := strings.CutPrefix(c.Payload, "@"); ok {
		var err error
		if file == "-" {
			event, err = io.ReadAll(os.Stdin)
		} else {
			event, err = os.ReadFile(file)
		}
		if err != nil {
			return err
		}
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	header, answer, err := cl.Call(ctx, "lambda", http.MethodPost, functionPath(c.Name)+"/invocations", map[string]string{"X-Amz-Log-Type": "Tail"}, event)
	if err != nil {
		return err
	}
	if log, err := base64.StdEncoding.DecodeString(header.Get("X-Amz-Log-Result")); err == nil && !c.Quiet {
		os.Stderr.Write(log)
	}
	fmt.Printf("%s\n", answer)
	if kind := header.Get("X-Amz-Function-Error"); kind != "" {
		return fmt.Errorf("the function failed (%s)", kind)
	}
	return nil
}

type functionLogsCmd struct {
	place
	Name string `arg:"" help:"Name of the function."`
}

func (c *functionLogsCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Invocations []struct {
			StartDate     float64
			FunctionError string
			Log           string
		}
	}
	if err := cl.REST(ctx, "imprint", http.MethodGet, "/imprint/functions/"+url.PathEscape(c.Name)+"/logs", nil, &out); err != nil {
		return err
	}
	for i := len(out.Invocations) - 1; i >= 0; i-- { // the newest last, as in a log
		one := out.Invocations[i]
		outcome := "answered"
		if one.FunctionError != "" {
			outcome = "failed"
		}
		fmt.Printf("== %s %s\n%s", time.UnixMilli(int64(one.StartDate*1000)).UTC().Format(time.RFC3339), outcome, one.Log)
	}
	return nil
}
