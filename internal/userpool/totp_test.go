package userpool

import (
	"testing"
	"time"
)

// The secret of the test vectors of RFC 4226 (appendix D) and, for SHA-1, of RFC 6238 (appendix B).
var rfcSecret = []byte("12345678901234567890")

func TestCodesAreThoseOfTheRFCs(t *testing.T) {
	t.Parallel()
	for n, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if got := totpCode(rfcSecret, int64(n)); got != want {
			t.Errorf("counter %d gives %s, want %s", n, got, want)
		}
	}
	// RFC 6238 shows eight digits; these are the last six of them.
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got := totpCode(rfcSecret, totpStepAt(time.Unix(at, 0))); got != want {
			t.Errorf("time %d gives %s, want %s", at, got, want)
		}
	}
	if got := totpText(rfcSecret); got != "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" {
		t.Errorf("base32 is %s", got)
	}
}

func TestACodeIsGoodForItsStepAndTheTwoBesideItAndOnlyOnce(t *testing.T) {
	t.Parallel()
	now := time.Unix(1111111111, 0)
	at := totpStepAt(now)
	for offset := int64(-3); offset <= 3; offset++ {
		step, again := matchTOTP(rfcSecret, totpCode(rfcSecret, at+offset), now, 0)
		if near := offset >= -1 && offset <= 1; again || near && step != at+offset || !near && step != 0 {
			t.Errorf("the code %d steps away gives step %d, %v", offset, step, again)
		}
		step, again = matchTOTP(rfcSecret, totpCode(rfcSecret, at+offset), now, at)
		if want := offset == 0 || offset == -1; again != want || (offset == 1) != (step == at+1) {
			t.Errorf("after the code of now, that %d steps away gives step %d, %v", offset, step, again)
		}
	}
	for _, guess := range []string{"", "05047", "0504711", " 050471", "50471"} {
		if step, again := matchTOTP(rfcSecret, guess, now, 0); step != 0 || again {
			t.Errorf("%q is accepted", guess)
		}
	}
}
