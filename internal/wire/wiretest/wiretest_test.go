package wiretest

import (
	"slices"
	"testing"

	"github.com/imprint-iot/imprint/internal/wire/wiretest/testdata/sample"
)

func TestUnreadNamesWhatTheHandlerForgets(t *testing.T) {
	t.Parallel()
	got, err := Unread("testdata/sample", sample.Service().Coverage())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Create.Children.Children",
		"Create.Extra",
		"Create.Options.Slow",
		"Create.Size",
		"Create.Tags.Value",
		"Create.Written",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
