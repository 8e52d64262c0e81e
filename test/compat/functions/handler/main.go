// Command handler is a pre-provisioning hook as one writes it for AWS Lambda, with the library and the types of aws-lambda-go.
package main

import (
	"context"
	"errors"
	"log"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

func handle(ctx context.Context, e events.IoTPreProvisionHookRequest) (events.IoTPreProvisionHookResponse, error) {
	var out events.IoTPreProvisionHookResponse
	call, ok := lambdacontext.FromContext(ctx)
	if _, late := ctx.Deadline(); !ok || !late {
		return out, errors.New("no context")
	}
	log.Printf("request %s of %s", call.AwsRequestID, lambdacontext.FunctionName)
	switch e.Parameters["SerialNumber"] {
	case "4711":
		out.AllowProvisioning = true
		out.ParameterOverrides = map[string]string{"Room": "7"}
	case "raise":
		return out, errors.New("no such list")
	case "panic":
		panic("boom")
	}
	return out, nil
}

func main() { lambda.Start(handle) }
