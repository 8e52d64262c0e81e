package device_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/imprint-iot/imprint/device"
)

// A device at its start: it takes its claim if there is one, goes on where a power cut stopped it, or finds that it is
// provisioned already. Then it says hello.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cfg := device.Config{Dir: "/var/lib/device", Template: "lamp", Parameters: map[string]string{"SerialNumber": "A-1"}}
	if text, err := os.ReadFile("/run/claim.json"); err == nil {
		if cfg.Claim, err = device.ParseClaim(text); err != nil {
			log.Fatal(err)
		}
	}
	id, err := device.Provision(ctx, cfg)
	if err != nil {
		var e *device.Error
		if errors.As(err, &e) {
			log.Fatalf("%v; what to do: %s", e, e.Cure)
		}
		log.Fatal(err)
	}
	conn, err := device.Connect(ctx, id.Identity, device.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Publish(ctx, "devices/"+id.ThingName+"/up", []byte("hello"), 1); err != nil {
		log.Fatal(err)
	}
	fmt.Println("configuration:", id.Configuration)
}
