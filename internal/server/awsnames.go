package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imprint-iot/imprint/internal/durable"
)

// awsNames are the host names of AWS that the HTTPS port answers for with the setting aws-names: those of the services that an app for
// installers calls (identity spec 0.1), in every region that is served. Devices never come by these.
func (s *Server) awsNames() []string {
	if !s.cfg.AWSNames {
		return nil
	}
	return awsHosts(s.site.regions()...)
}

// awsHosts are host names of AWS's services in regions.
func awsHosts(regions ...string) []string {
	names := []string{"iam.amazonaws.com", "sts.amazonaws.com"}
	for _, region := range regions {
		for _, service := range []string{"cognito-identity", "cognito-idp", "iot", "sts"} {
			names = append(names, service+"."+region+".amazonaws.com")
		}
	}
	return names
}

// writeRoots writes the files that `imprint ca` prints. The root for names of AWS is never among those that everybody is given.
func (s *Server) writeRoots() error {
	if err := durable.KeepFile(filepath.Join(s.cfg.Data, RootsFile), []byte(s.authority.RootsPEM()), 0o600); err != nil {
		return err
	}
	file := filepath.Join(s.cfg.Data, AWSNamesRootsFile)
	if !s.cfg.AWSNames {
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if s.site.HTTPSPort != 443 {
		s.log.Info("aws-names: apps call AWS's host names on port 443, and this server's HTTPS port is another: lead 443 there", "https-port", s.site.HTTPSPort)
	}
	return durable.KeepFile(file, []byte(s.authority.AWSNamesRootsPEM()), 0o600)
}
