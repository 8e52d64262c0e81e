package userpool

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"time"
)

// This file is one-time codes by time (RFC 6238) as authenticator apps make them: HMAC-SHA-1, steps of thirty seconds, six digits.
// It is pure: no clock, no store.

const (
	totpSecretSize = 32 // bytes
	totpSeconds    = 30
	totpSkew       = 1 // steps that a phone's clock may be off, either way
)

func newTOTPSecret() []byte {
	secret := make([]byte, totpSecretSize)
	rand.Read(secret)
	return secret
}

// totpText is how people and apps are given a secret: base32 in upper case, without padding.
func totpText(secret []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
}

func totpStepAt(t time.Time) int64 { return t.Unix() / totpSeconds }

// totpCode is the code of a step (RFC 4226 section 5.3).
func totpCode(secret []byte, step int64) string {
	h := hmac.New(sha1.New, secret)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
	sum := h.Sum(nil)
	n := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&15:]) & (1<<31 - 1)
	return fmt.Sprintf("%06d", n%1_000_000)
}

// matchTOTP returns the step whose code guess is, of those around now and later than used; 0: none. again says that it is the code of
// an earlier one.
func matchTOTP(secret []byte, guess string, now time.Time, used int64) (step int64, again bool) {
	for n := totpStepAt(now) - totpSkew; n <= totpStepAt(now)+totpSkew; n++ {
		switch {
		case !secretsEqual(totpCode(secret, n), guess):
		case n <= used:
			again = true
		default:
			step = n
		}
	}
	return step, again && step == 0
}
