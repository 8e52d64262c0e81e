package reserved

import "github.com/imprint-iot/imprint/internal/fleet"

// Requests and answers (provisioning spec 3.3 to 3.8). wire.EncodeTopic and wire.DecodeTopic write and read them.
type (
	CreateRequest struct{}
	CSRRequest    struct {
		CertificateSigningRequest string `wire:"certificateSigningRequest,required"`
	}
	RegisterRequest struct {
		Token      *string           `wire:"certificateOwnershipToken"`
		Parameters map[string]string `wire:"parameters"`
	}
	CreateAccepted struct {
		ID         string        `wire:"certificateId,required"`
		PEM        string        `wire:"certificatePem,required"`
		PrivateKey *fleet.Secret `wire:"privateKey"` // nil if the key is the device's own
		Token      fleet.Secret  `wire:"certificateOwnershipToken,required"`
	}
	RegisterAccepted struct {
		Configuration map[string]string `wire:"deviceConfiguration,required"`
		ThingName     *string           `wire:"thingName"` // nil: the template has no thing
	}
	Refused struct {
		StatusCode   int     `wire:"statusCode,required"`
		ErrorCode    string  `wire:"errorCode,required"`
		ErrorMessage string  `wire:"errorMessage,required"`
		TraceID      *string `wire:"traceId"`    // ours: `imprint explain` takes it
		RetryAfter   *int    `wire:"retryAfter"` // ours: seconds, where it is of use to ask again
	}
)
