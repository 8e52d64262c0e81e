package compat

import (
	"strings"
	"testing"
)

func TestPythonClientsProvisionADevice(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "py")
	out := s.run(t, "python", []string{"POOL_ID=" + w.poolID, "CLIENT_ID=" + w.clientID, "IDENTITY_POOL=" + w.identityPool,
		"INSTALLER=" + w.installer, "PASSWORD=" + w.password, "TEMPLATE=" + w.template}, "/usr/bin/python3", "-W", "ignore", "trusteduser.py")
	got := must[struct {
		ARN, Thing, Heard string
		Wrong, Denied     []any
	}](t, out)
	if !strings.Contains(got.ARN, "/"+w.installerRole+"/") || got.Thing != w.thing("py1") || got.Heard != "on" {
		t.Errorf("got %+v", got)
	}
	if got.Wrong[0] != "NotAuthorizedException" || got.Denied[0] != "AccessDeniedException" || got.Denied[1] != 403.0 {
		t.Errorf("a wrong password gave %v, listing things %v", got.Wrong, got.Denied)
	}
}
