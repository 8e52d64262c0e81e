package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

type functionCmd struct {
	Create functionCreateCmd `cmd:"" help:"Make a function of code in a folder or zip file, which the server runs."`
	Update functionUpdateCmd `cmd:"" help:"Change code or settings of such a function; the next invocation uses them."`
	Invoke functionInvokeCmd `cmd:"" help:"Run such a function and print its answer."`
	Logs   functionLogsCmd   `cmd:"" help:"Print what the last invocations of such a function wrote since the server started."`
	Put    functionPutCmd    `cmd:"" help:"Say what the ARN of a pre-provisioning hook's function stands for: a webhook, a function of another endpoint, or a rule."`
	List   functionListCmd   `cmd:"" help:"List the functions."`
	Delete functionDeleteCmd `cmd:"" help:"Delete a function; templates that name it refuse every device from then on."`
}

type functionPutCmd struct {
	place
	Name string `arg:"" help:"Name: the ARN is arn:aws:lambda:REGION:ACCOUNT:function:NAME."`

	Webhook string `help:"HTTPS URL that gets the event, signed with HMAC." placeholder:"URL" xor:"kind" required:""`
	Lambda  string `help:"Endpoint that speaks Lambda's Invoke API, for example https://lambda.eu-central-1.amazonaws.com." placeholder:"URL" xor:"kind" required:""`
	Rule    string `help:"Expression over the device's parameters, for example in_table('serials', SerialNumber)." placeholder:"EXPR" xor:"kind" required:""`

	SecretFile  string        `help:"File with the secret: of a webhook (default: one is made and printed, once) or of the access key." type:"path" placeholder:"FILE"`
	Function    string        `help:"Name or ARN of the function at the endpoint (default: the same name)." placeholder:"NAME"`
	Region      string        `help:"Region that requests to the endpoint are signed for (default: this server's)." placeholder:"REGION"`
	AccessKeyID string        `name:"access-key-id" help:"Key that signs requests to the endpoint (default: none, they are not signed)." placeholder:"ID"`
	Timeout     time.Duration `help:"How long it may take, at most 10s (default 5s)." placeholder:"TIME"`
}

func (c *functionPutCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in := map[string]any{}
	for kind, value := range map[string]string{"webhook": c.Webhook, "lambda": c.Lambda, "rule": c.Rule} {
		switch {
		case value == "":
		case kind == "rule":
			in["kind"], in["rule"] = kind, value
		default:
			in["kind"], in["url"] = kind, value
		}
	}
	for name, value := range map[string]string{"functionName": c.Function, "region": c.Region, "accessKeyId": c.AccessKeyID} {
		if value != "" {
			in[name] = value
		}
	}
	if c.Timeout != 0 {
		in["timeoutMilliseconds"] = c.Timeout.Milliseconds()
	}
	if c.SecretFile != "" {
		b, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return fmt.Errorf("reading the secret: %w", err)
		}
		in["secret"] = strings.TrimSpace(string(b))
	}
	var out struct{ FunctionArn, Secret string }
	if err := cl.REST(ctx, "imprint", http.MethodPut, "/imprint/functions/"+url.PathEscape(c.Name), in, &out); err != nil {
		return err
	}
	fmt.Printf("ARN=%s\n", out.FunctionArn)
	if out.Secret != "" {
		fmt.Printf("SECRET=%s\n", out.Secret)
	}
	return nil
}

type functionListCmd struct{ place }

func (c *functionListCmd) Run(ctx context.Context) error {
	type page struct {
		Functions []struct {
			Name, Kind, URL, FunctionName, Rule string
			TimeoutMilliseconds                 int64
		}
		NextToken string
	}
	return printPages(ctx, c.place, "/imprint/functions", 100, func(w io.Writer, p page) string {
		for _, f := range p.Functions {
			fmt.Fprintf(w, "%s\t%s\t%v\t%s\n", f.Name, f.Kind, time.Duration(f.TimeoutMilliseconds)*time.Millisecond, strings.TrimSpace(f.URL+" "+f.FunctionName+f.Rule))
		}
		return p.NextToken
	})
}

type functionDeleteCmd struct {
	place
	Name string `arg:"" help:"Name of the function."`
}

func (c *functionDeleteCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	return cl.REST(ctx, "imprint", http.MethodDelete, "/imprint/functions/"+url.PathEscape(c.Name), nil, nil)
}
