package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/imprint-iot/imprint/internal/fleet"
)

type templateCmd struct {
	Lint templateLintCmd `cmd:"" help:"Say what will go wrong with a provisioning template: where, why, and what to do."`
	Try  templateTryCmd  `cmd:"" help:"Play a registration through without writing anything: the plan, what the device could do then, what the hook says."`
}

// draft says which template a verb is about.
type draft struct {
	place
	Template string `arg:"" name:"file-or-name" help:"File with the body of a template (- is standard input), or the name of a stored one."`
	As       string `help:"Name of the stored template that a file is to become a version of: its hook and role count." placeholder:"NAME"`
	JITP     bool   `name:"jitp" help:"A file is the template of a CA, or its registration configuration as register-ca-certificate takes it (which is known without this)."`
}

// A registrationConfig is how a CA names its template: the AWS CLI's --registration-config file://….
type registrationConfig struct {
	TemplateBody string `json:"templateBody"`
	TemplateName string `json:"templateName"`
	RoleArn      string `json:"roleArn"`
}

// asConfig reads a file that may be the registration configuration of a CA.
func asConfig(text []byte) (c registrationConfig, is bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return c, d.Decode(&c) == nil && c.TemplateBody+c.TemplateName != ""
}

// request is what the API is asked about. What is no file and could be a name is one.
func (d *draft) request() (map[string]any, error) {
	in := map[string]any{}
	var body []byte
	var err error
	if d.Template == "-" {
		body, err = os.ReadFile("/dev/stdin")
	} else {
		body, err = os.ReadFile(d.Template)
	}
	if err == nil && d.JITP {
		in["type"] = fleet.JITP
	}
	if c, is := asConfig(body); err == nil && is {
		if c.TemplateBody != "" {
			d.Template += " (templateBody)" // which is what lines are counted in
		}
		in["type"] = fleet.JITP
		for name, v := range map[string]string{"templateBody": c.TemplateBody, "templateName": c.TemplateName, "roleArn": c.RoleArn} {
			if v != "" {
				in[name] = v
			}
		}
		return in, nil
	}
	switch {
	case err == nil:
		in["templateBody"] = string(body)
		if d.As != "" {
			in["templateName"] = d.As
		}
	case errors.Is(err, fs.ErrNotExist) && fleet.ValidTemplateName(d.Template) && filepath.Ext(d.Template) == "":
		in["templateName"] = d.Template
	default:
		return nil, fmt.Errorf("reading the template: %w", err)
	}
	return in, nil
}

// answerSize is how large a packet a device must receive.
type answerSize struct {
	Operation, Keys, Format string
	Bytes, BytesMQTT5       int
}

func printSizes(list []answerSize, budget int) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, a := range list {
		fits := ""
		if budget > 0 {
			fits = "fits"
			if a.Bytes > budget {
				fits = "does not fit"
			}
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%d bytes\t%d with MQTT 5\t%s\n", a.Operation, a.Keys, a.Format, a.Bytes, a.BytesMQTT5, fits)
	}
	w.Flush()
}

type templateLintCmd struct {
	draft
	Sizes bool `help:"Show how large the answers to devices are, too."`
}

func (c *templateLintCmd) Run(ctx context.Context) error {
	in, err := c.request()
	if err != nil {
		return err
	}
	delete(in, "roleArn") // it is looked at when the template is tried
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Findings []struct {
			Rule, Severity, Pointer, Cause, Cure string
			Line                                 int
		}
		Answers []answerSize
	}
	if err := cl.REST(ctx, "imprint", http.MethodPost, "/imprint/lint-template", in, &out); err != nil {
		return err
	}
	failed := false
	for _, f := range out.Findings {
		failed = failed || f.Severity == "error"
		fmt.Printf("%s:%d: %s: %s\n    what to do: %s\n    rule %s, at %s\n", c.Template, f.Line, f.Severity, f.Cause, f.Cure, f.Rule, cmp.Or(f.Pointer, "the whole template"))
	}
	if c.Sizes {
		fmt.Println("The largest packets that the device must receive:")
		printSizes(out.Answers, 0)
	}
	if len(out.Findings) == 0 {
		fmt.Printf("%s: nothing found\n", c.Template)
	}
	if failed {
		return saidAlready(1)
	}
	return nil
}

type templateTryCmd struct {
	draft
	Param       map[string]string `help:"Parameter that the device would send, NAME=VALUE; may be given several times." placeholder:"NAME=VALUE" mapsep:"none"`
	Certificate string            `help:"Certificate of a device, PEM: with the template of a CA, whose parameters come from it." placeholder:"FILE" type:"existingfile"`
	Role        string            `help:"ARN of the role that the CA is registered with." placeholder:"ARN"`
	ClientID    string            `name:"client-id" help:"Client id of the device once it is provisioned (default: the name of its thing)." placeholder:"ID"`
	Publish     []string          `help:"Topic that the device would publish to; may be given several times (default: what the policies allow)." placeholder:"TOPIC" sep:"none"`
	Subscribe   []string          `help:"Filter that the device would subscribe to; may be given several times." placeholder:"FILTER" sep:"none"`
	CallHook    bool              `help:"Ask the template's hook, with an event marked as a trial (imprintTrial). Without it nothing is called."`
}

// decided is what the device could do.
type decided struct {
	Action, Resource, Why string
	Allowed               bool
	MissingVariables      []string
}

// tried is what the API answers.
type tried struct {
	StatusCode              int
	ErrorCode, ErrorMessage string
	Hook, CA                string
	ThingName, Role         string
	DeviceConfiguration     map[string]string
	Decisions               []struct{ Verb, Resource, Name, Part, Reason string }
	Needs                   []struct{ Action, Resource string }
	Connection              []decided
	Answers                 []answerSize
	ReplyBudget             int
}

func (c *templateTryCmd) Run(ctx context.Context) error {
	c.JITP = c.JITP || c.Certificate != ""
	in, err := c.request()
	if err != nil {
		return err
	}
	if c.Certificate != "" {
		pem, err := os.ReadFile(c.Certificate)
		if err != nil {
			return err
		}
		in["certificatePem"] = string(pem)
	}
	if c.Role != "" {
		in["roleArn"] = c.Role
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	in["parameters"], in["publish"], in["subscribe"] = c.Param, c.Publish, c.Subscribe
	if c.ClientID != "" {
		in["clientId"] = c.ClientID
	}
	path := "/imprint/try-template"
	if c.CallHook {
		path = "/imprint/try-template-with-hook"
	}
	var out tried
	if err := cl.REST(ctx, "imprint", http.MethodPost, path, in, &out); err != nil {
		return err
	}
	out.print()
	if out.ErrorCode != "" || slices.ContainsFunc(out.Connection, func(d decided) bool { return !d.Allowed }) {
		return saidAlready(1)
	}
	return nil
}

func (o tried) print() {
	if o.ErrorCode != "" {
		fmt.Printf("The device would be refused: %d %s: %s\n", o.StatusCode, o.ErrorCode, o.ErrorMessage)
	} else {
		fmt.Printf("The device would be registered as thing %s.\n", cmp.Or(o.ThingName, "(none)"))
	}
	if o.Hook != "" {
		fmt.Println("Hook:", o.Hook)
	}
	if o.CA != "" {
		fmt.Println("CA:", o.CA)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if len(o.Decisions) > 0 {
		fmt.Fprintln(w, "Plan:")
		for _, d := range o.Decisions {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", d.Verb, strings.TrimSpace(d.Resource+" "+d.Name+" "+d.Part), d.Reason)
		}
	}
	if o.Role != "" {
		fmt.Fprintln(w, "Role:", o.Role)
	}
	if len(o.Connection) > 0 {
		fmt.Fprintln(w, "Then the device may:")
		for _, d := range o.Connection {
			verdict := "yes"
			if !d.Allowed {
				verdict = "NO"
			}
			why := d.Why
			if len(d.MissingVariables) > 0 {
				why += "; without a value: " + strings.Join(d.MissingVariables, ", ")
			}
			fmt.Fprintf(w, "  %s\t%s on %s\t%s\n", verdict, d.Action, d.Resource, why)
		}
	}
	w.Flush()
	if len(o.DeviceConfiguration) > 0 {
		fmt.Println("Device configuration:")
		for _, k := range slices.Sorted(maps.Keys(o.DeviceConfiguration)) {
			fmt.Printf("  %s = %s\n", k, o.DeviceConfiguration[k])
		}
	}
	if len(o.Answers) > 0 {
		fmt.Println("The largest packets that the device must receive:")
		printSizes(o.Answers, o.ReplyBudget)
	}
}
