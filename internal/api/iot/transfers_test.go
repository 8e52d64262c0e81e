package iot

import (
	"strings"
	"testing"
)

const (
	tco = "TransferConflictException"
	tac = "TransferAlreadyCompletedException"
)

// turns plays steps of two accounts in turn, each for one of them alone.
func (w *world) turns(steps ...turn) {
	w.t.Helper()
	for _, s := range steps {
		method, target, _ := strings.Cut(s.do, " ")
		status, code, body := w.send(s.account, method, target, s.body, s.head...)
		w.expect(s.step, status, code, body)
	}
}

type turn struct {
	account string
	step
}

func TestCertificatesGoToAnotherAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	from := func(s step) turn { return turn{mine, s} }
	to := func(s step) turn { return turn{other, s} }
	w.turns(
		from(step{do: "POST /keys-and-certificate?setAsActive=true", keep: "certificateArn=ARN certificateId=ID"}),
		from(step{do: "POST /policies/p", body: policyBody}),
		from(step{do: "POST /things/a"}),
		to(step{do: "POST /policies/p", body: policyBody}),
		from(step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=" + other, want: cst, text: "is ACTIVE"}),
		from(step{do: "PUT /certificates/$ID?newStatus=INACTIVE"}),
		from(step{do: "PATCH /transfer-certificate/$ID", want: inv}),
		from(step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=12", want: inv}),
		from(step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=" + mine, want: inv}),
		from(step{do: "PATCH /transfer-certificate/" + strings.Repeat("a", 64) + "?targetAwsAccount=" + other, want: nf}),
		from(step{do: "PUT /target-policies/p", body: `{"target":"$ARN"}`}),
		from(step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=" + other, want: tco, text: "policies"}),
		from(step{do: "POST /target-policies/p", body: `{"target":"$ARN"}`}),
		from(step{do: "PUT /things/a/principals", head: []string{principal, "$ARN"}}),
		from(step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=" + other, want: tco, text: "Things"}),
		from(step{do: "DELETE /things/a/principals", head: []string{principal, "$ARN"}}),
		from(step{do: "PATCH /cancel-certificate-transfer/$ID", want: inv}),
		from(step{do: "GET /certificates-out-going", text: `{"outgoingCertificates":[]}`}),
		to(step{do: "GET /certificates/$ID", want: nf}),
		to(step{do: "PATCH /accept-certificate-transfer/$ID", want: nf}),

		// Offered: both see it, and neither can use it.
		from(step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=" + other, body: `{"transferMessage":"take it"}`,
			text: `{"transferredCertificateArn":"arn:aws:iot:us-east-1:` + other + `:cert/$ID"}`}),
		from(step{do: "GET /certificates-out-going?pageSize=1&isAscendingOrder=true",
			text: `"certificateId":"$ID","creationDate":17…"transferDate":17…"transferMessage":"take it","transferredTo":"` + other + `"}]}`}),
		from(step{do: "GET /certificates/$ID", text: `"ownedBy":"` + mine + `","status":"PENDING_TRANSFER","transferData":{"transferDate":17…"transferMessage":"take it"}`}),
		to(step{do: "GET /certificates-out-going", text: `{"outgoingCertificates":[]}`}),
		to(step{do: "GET /certificates", text: `"status":"PENDING_TRANSFER"`}),
		to(step{do: "GET /certificates/$ID", text: `"ownedBy":"` + mine + `","status":"PENDING_TRANSFER","transferData":{"transferDate":17…"transferMessage":"take it"}`}),
		from(step{do: "PUT /certificates/$ID?newStatus=ACTIVE", want: cst}),
		to(step{do: "PUT /certificates/$ID?newStatus=ACTIVE", want: cst}),
		from(step{do: "DELETE /certificates/$ID?forceDelete=true", want: cst}),
		to(step{do: "DELETE /certificates/$ID", want: cst}),
		from(step{do: "PUT /target-policies/p", body: `{"target":"$ARN"}`, want: inv}),
		to(step{do: "PUT /target-policies/p", body: `{"target":"arn:aws:iot:us-east-1:` + other + `:cert/$ID"}`, want: inv}),
		from(step{do: "PUT /things/a/principals", head: []string{principal, "$ARN"}, want: inv}),
		from(step{do: "PATCH /accept-certificate-transfer/$ID", want: inv}),
		from(step{do: "PATCH /reject-certificate-transfer/$ID", want: inv}),
		to(step{do: "PATCH /cancel-certificate-transfer/$ID", want: inv}),
		from(step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=" + other, want: cst}),

		// Rejected, and cancelled: it is back.
		to(step{do: "PATCH /reject-certificate-transfer/$ID", body: `{"rejectReason":"no room"}`}),
		to(step{do: "GET /certificates/$ID", want: nf}),
		to(step{do: "PATCH /accept-certificate-transfer/$ID", want: nf}),
		from(step{do: "GET /certificates-out-going", text: `{"outgoingCertificates":[]}`}),
		from(step{do: "GET /certificates/$ID", text: `"status":"INACTIVE","transferData":{"rejectDate":17…"rejectReason":"no room"`}),
		from(step{do: "PATCH /cancel-certificate-transfer/$ID", want: tac, text: "was rejected at"}),
		from(step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=" + other}),
		from(step{do: "PATCH /cancel-certificate-transfer/$ID"}),
		from(step{do: "GET /certificates/$ID", text: `"status":"INACTIVE","transferData":{"transferDate":17`}),
		to(step{do: "GET /certificates/$ID", want: nf}),

		// Accepted: it is there, and gone here.
		from(step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=" + other}),
		to(step{do: "PATCH /accept-certificate-transfer/$ID?setAsActive=true"}),
		to(step{do: "GET /certificates/$ID", text: `"ownedBy":"` + other + `","previousOwnedBy":"` + mine + `","status":"ACTIVE","transferData":{"acceptDate":17`}),
		to(step{do: "PATCH /accept-certificate-transfer/$ID", want: tac}),
		to(step{do: "PATCH /reject-certificate-transfer/$ID", want: tac}),
		to(step{do: "PUT /target-policies/p", body: `{"target":"arn:aws:iot:us-east-1:` + other + `:cert/$ID"}`}),
		from(step{do: "GET /certificates/$ID", want: nf}),
		from(step{do: "GET /certificates", text: `{"certificates":[]}`}),
		from(step{do: "PATCH /cancel-certificate-transfer/$ID", want: tac, text: "was accepted at"}),
		from(step{do: "DELETE /certificates/$ID", want: nf}),
	)
}

// Whoever offers a certificate learns nothing of an account: not whether it is there, nor that it has this certificate already.
func TestAnOfferTellsNothingOfTheOtherAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.turns(
		turn{mine, step{do: "POST /keys-and-certificate", keep: "certificateId=ID certificatePem=PEM"}},
	)
	w.known["PEM"] = strings.Trim(quoted(w.known["PEM"]), `"`)
	w.turns(
		turn{other, step{do: "POST /certificate/register-no-ca", body: `{"certificatePem":"$PEM","status":"ACTIVE"}`}},
		turn{mine, step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=" + other, text: `{"transferredCertificateArn":`}},
		turn{other, step{do: "PATCH /accept-certificate-transfer/$ID", want: inv}},
		turn{mine, step{do: "PATCH /cancel-certificate-transfer/$ID"}},
		turn{other, step{do: "GET /certificates/$ID", text: `"status":"ACTIVE"`}},
		turn{mine, step{do: "PATCH /transfer-certificate/$ID?targetAwsAccount=555555555555", text: `{"transferredCertificateArn":`}},
		turn{mine, step{do: "PATCH /cancel-certificate-transfer/$ID"}},
	)
}
