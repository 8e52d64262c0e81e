// Command allow is a pre-provisioning hook that allows everything, with the library of aws-lambda-go: the bench asks it.
package main

import (
	"context"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(context.Context, events.IoTPreProvisionHookRequest) (events.IoTPreProvisionHookResponse, error) {
		return events.IoTPreProvisionHookResponse{AllowProvisioning: true}, nil
	})
}
