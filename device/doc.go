// Package device gives a device its identity: it trades a claim, which an installer or the factory handed over, for a
// certificate of the device's own, stores it so that no power cut can lose it, and connects with it. It speaks the provisioning
// protocol of AWS IoT Core over MQTT, with Imprint or with AWS itself.
//
// Begin with ParseClaim, Provision and Run:
//
//	claim, err := device.ParseClaim(text) // from Bluetooth, USB, a file
//	id, err := device.Provision(ctx, device.Config{Dir: "/var/lib/device", Claim: claim})
//	conn, err := device.Connect(ctx, id.Identity, device.Options{})
//
// The package and everything it needs is the standard library: MQTT and CBOR are the small parts of them that a device uses
// (internal/mqtt, internal/cbor), so that a program on it stays at about six megabytes.
//
// # What survives a power cut
//
// Each step of the flow is durable before the next thing is sent: the claim; the key with its CSR, so that the CSR asked again
// finds the certificate that was issued; certificate and ownership token, so that registering again finds the thing; the answer.
// The new identity grows in the slot that is not in use, and becomes the one in use by one atomic rename after it has connected.
// A renewal (Renew, or Run by itself) is the same with the identity in use in place of a claim.
// See Store for the files. Two cases remain, and both are told: with keys made by the service, a cut before they are stored
// leaves behind a certificate that the service deletes within the hour; and if power fails between a registration and its
// answer, and stays away until the claim has expired, the identity works but its thing name is unknown (Identity.AnswerLost).
//
// # The files, for other programs
//
// DIR/slot holds the letter of the slot in use, a or b; DIR/current is a symbolic link to it where the file system has such
// links (FAT has none: read slot, or ask `imprint-device status`). In it:
//
//	certificate.pem   the device's certificate
//	private.key       its key, mode 0600
//	ca.pem            the roots to trust; absent if those of the system are
//	config.json       the template's DeviceConfiguration: an object of strings
//	identity.json     thing name, certificate id, endpoint, ports, client id: see Identity
//
// So with mosquitto:
//
//	mosquitto_pub -h HOST -p 8883 --cafile DIR/current/ca.pem --cert DIR/current/certificate.pem --key DIR/current/private.key \
//	    -i THING -t devices/THING/up -m hello -q 1
//
// # The command
//
// imprint-device is this package as a program. `imprint-device provision` prints one line of JSON on standard output and a log
// for people on standard error:
//
//	--claim FILE|-          the claim, see ParseClaim; else the environment's IMPRINT_CLAIM has it; else a cut call is resumed
//	--erase-claim MODE      auto (FILE is erased afterwards if the claim is a temporary one), always, never
//	--endpoint HOST[:PORT]  --port N (repeatable)   where the service is, if the claim does not say; ports 8883, then 443
//	--ca FILE               PEM of the roots to trust, if the claim has none; else the system's
//	--template NAME         --param NAME=VALUE (repeatable)
//	--client-id ID          of the claim's connection
//	--device-client-id ID   with the new identity, if not the thing's name
//	--key-type p256|rsa2048 --server-keys   --format json|cbor   --mqtt 3.1.1|5
//	--dir DIR               of the store; else IMPRINT_DEVICE_DIR, else /var/lib/imprint-device, or for a user who is not root
//	                        imprint-device in the user's state folder
//	--on-config CMD         run by sh after success, once per identity, with the path of config.json as $1 and its text as input
//	--again                 provision anew although this claim has been used here before
//	--timeout 2m            for everything together
//	--quiet                 no log
//
// `imprint-device run` stays connected and prints a line of JSON per event (connected, subscribed, published, message, refused,
// disconnected, renewed, renewal-failed, stopped). It renews the certificate in time:
//
//	--dir --client-id --port --mqtt   as above
//	--keep-alive 1m
//	--publish TOPIC=PAYLOAD --subscribe FILTER (repeatable; {thingName} stands for the thing's name)   --qos 0|1   --every 10s
//	--once                  subscribe, publish, wait for the acknowledgements and --wait for messages, then stop; a refusal ends it
//	--timeout 0             end after so long; with --once that is a failure
//	--renew auto            or off: auto renews the certificate when it is time, but not with --once
//
// `imprint-device renew` gets the next certificate with the one in use, now, and prints a line of JSON. Where `run` does not run, a timer
// calls it with --if-due. A connection of `run` is interrupted by it:
//
//	--if-due                do nothing before it is time
//	--template NAME         --param NAME=VALUE (repeatable)   --port N (repeatable)   --mqtt   else as at the first time
//	--subscribe FILTER      (repeatable) what the new certificate must be able to subscribe to
//	--timeout 2m            --quiet   --dir
//
// `imprint-device status` prints what is in the store, `imprint-device reset --yes` erases it, `imprint-device version` tells its version.
//
// # Exit status
//
//	0   done
//	1   a defect of the program
//	2   usage: an option is missing or makes no sense
//	3   the claim is malformed, expired, not accepted or missing: ask for a new one
//	4   rejected by the service: the line tells errorCode, message and trace
//	5   cannot connect: network, trust, clock, or out of time; run again to go on
//	6   storage: a file cannot be read or written, or others can
//	7   refused: the service does not accept the device's certificate, or what it published or subscribed to
//	8   the command of --on-config failed; the identity is in use, run again to repeat the command
//	9   not provisioned yet
//	10  interrupted; run again to go on
package device
