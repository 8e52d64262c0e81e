package fleet

import "time"

// A TransferState is how far the transfer of a certificate to another account has come.
type TransferState string

const (
	TransferPending   TransferState = "pending"
	TransferAccepted  TransferState = "accepted"
	TransferRejected  TransferState = "rejected"
	TransferCancelled TransferState = "cancelled"
)

// A Transfer is what one of the two accounts knows of the transfer of a certificate: each has its own.
type Transfer struct {
	Certificate string // id
	Peer        string // account on the other side
	Outgoing    bool   // it is this account that gives the certificate away
	State       TransferState
	Message     string // of whoever gives it away
	Reason      string // of whoever rejected it
	Requested   time.Time
	Ended       time.Time // accepted, rejected or cancelled; zero while it is pending
}
