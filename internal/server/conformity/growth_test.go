package conformity

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// reads are names of operations that list, search or describe.
var reads = regexp.MustCompile(`^(List|Describe|Get|Search|Lookup|Test|Filter|Find|Read)`)

// TestWhatEachOperationReadsIsKnown: internal/store compares what its questions cost among few things and among many. An operation that
// reads says there which it asks, or why it does not grow. Sign-in and identity have tests of their own.
func TestWhatEachOperationReadsIsKnown(t *testing.T) {
	t.Parallel()
	const file = "../../store/testdata/reads.txt"
	text, err := os.ReadFile(file)
	must(t, err)
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 2 && words[0] != "#" {
			listed[words[0]+" "+strings.TrimSuffix(words[1], ":")] = true
		}
	}
	for _, svc := range start(t).Services() {
		switch svc.Name() {
		case "cognito-idp", "cognito-identity", "iam", "sts", "lambda", "s3":
			continue
		}
		for _, op := range svc.Coverage().Implemented {
			if name := svc.Name() + " " + op.Operation; reads.MatchString(op.Operation) && !listed[name] {
				t.Errorf("%s is not in %s: add a line with the questions that it asks (internal/store/questions_test.go)", name, file)
			} else {
				delete(listed, name)
			}
		}
		for name := range listed {
			if strings.HasPrefix(name, svc.Name()+" ") {
				t.Errorf("%s lists %s, which is no operation that reads", file, name)
			}
		}
	}
}
