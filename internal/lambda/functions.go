package lambda

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Settings of a function that is given none, as in AWS.
const (
	defaultTimeout      = 3 * time.Second
	defaultMemory       = 128 // MiB
	defaultStorage      = 512 // MiB
	defaultArchitecture = "x86_64"
)

const (
	maxTimeout     = 900 * time.Second
	maxEnvironment = 4 << 10         // bytes of names and values
	hookTime       = 5 * time.Second // of a hook, loading the code included; the handler has its own timeout in it
)

// A Change is what a request says of a function. nil leaves a setting as it is, or gives it its default.
type Change struct {
	Runtime, Handler, Role, Description *string
	Timeout                             *time.Duration
	Memory, Storage                     *int
	Architecture                        *string
	Environment                         map[string]string // in place of all variables
	Revision                            string            // that the function must have; "": any
}

// Create adds a function. Kinds of errors: KindInvalid, KindExists, KindLimit, KindDenied.
func (s *Service) Create(ctx context.Context, name string, zip []byte, c Change, tags map[string]string) (f fleet.LocalFunction, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	if !fleet.ValidFunctionName(name) {
		return f, fleet.Invalid("", "", "A function's name has 1 to 64 letters, digits and characters of _-")
	}
	f = fleet.LocalFunction{Name: name, Timeout: defaultTimeout, Memory: defaultMemory, Storage: defaultStorage, Architecture: defaultArchitecture}
	if err := s.allow(ctx, c); err != nil {
		return f, err
	}
	if err := s.settings(scope, &f, c); err != nil {
		return f, err
	}
	if f.Runtime == "" || f.Handler == "" {
		return f, fleet.Invalid("", "", "Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	if err := s.View(ctx, func(tx *store.Tx) error { return free(tx, scope, name) }); err != nil {
		return f, err // before all the work
	}
	if err := s.take(ctx, scope, &f, zip); err != nil {
		return f, err
	}
	err = s.Store.Tx(ctx, func(tx *store.Tx) error {
		if err := free(tx, scope, name); err != nil {
			return err
		}
		if err := s.put(tx, scope, &f); err != nil {
			return err
		}
		return tag(tx, scope, name, tags, nil)
	})
	return f, err
}

// View reads.
func (s *Service) View(ctx context.Context, f func(*store.Tx) error) error {
	return s.Store.View(ctx, f)
}

// free fails if a function of the name is there, or there are too many.
func free(tx *store.Tx, scope fleet.Scope, name string) error {
	old, err := tx.Function(scope, name)
	switch {
	case err == nil && old.Kind == fleet.Local:
		return fleet.Exists("", "", "Function already exist: %s", name)
	case err == nil:
		return fleet.Exists("", "", "Function already exist: %s. It is a %s: imprint function delete %[1]s takes it away", name, old.Kind)
	case fleet.KindOf(err) != fleet.KindNotFound:
		return err
	}
	n, err := tx.CountFunctions(scope)
	if err == nil && n >= fleet.MaxFunctions {
		err = fleet.OverLimit("", "", "There are %d functions already, and no more are allowed", n)
	}
	return err
}

// take checks a zip file, stores it and makes it the function's code.
func (s *Service) take(ctx context.Context, scope fleet.Scope, f *fleet.LocalFunction, zip []byte) (err error) {
	if len(zip) == 0 {
		return fleet.Invalid("", "", "Please give the code as ZipFile: a zip file of the function's folder, up to %d bytes. Code from S3 and container images are not offered here", MaxZip)
	}
	if err := checkZip(zip); err != nil {
		return err
	}
	f.Code, err = s.upload(ctx, scope, zip)
	return err
}

// put stores a function with a new revision.
func (s *Service) put(tx *store.Tx, scope fleet.Scope, f *fleet.LocalFunction) error {
	if complete, err := tx.HasCode(scope, f.Code); err != nil || !complete {
		if err == nil {
			err = &fleet.Error{Kind: fleet.KindUnavailable, Msg: "The upload took too long. Try again"}
		}
		return err
	}
	f.Modified, f.Revision = tx.Now(), fleet.NewUUID()
	return tx.PutLocalFunction(scope, *f, hookTime)
}

// UpdateCode gives a function another zip file. dryRun only checks. Kinds of errors: those of Create, KindNotFound and KindVersion.
func (s *Service) UpdateCode(ctx context.Context, name string, zip []byte, architecture *string, revision string, dryRun bool) (f fleet.LocalFunction, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	if err := s.View(ctx, func(tx *store.Tx) (err error) {
		f, err = current(tx, scope, name, revision)
		return err
	}); err != nil {
		return f, err
	}
	var uploaded fleet.LocalFunction
	if dryRun {
		if err = checkZip(zip); err == nil {
			f.Code = codeOf(zip)
		}
		return f, err
	}
	if err := s.take(ctx, scope, &uploaded, zip); err != nil {
		return f, err
	}
	return s.update(ctx, scope, name, revision, func(f *fleet.LocalFunction) error {
		f.Code = uploaded.Code
		return s.settings(scope, f, Change{Architecture: architecture})
	})
}

// UpdateConfiguration changes settings. Kinds of errors: those of Create, KindNotFound and KindVersion.
func (s *Service) UpdateConfiguration(ctx context.Context, name string, c Change) (fleet.LocalFunction, error) {
	scope := fleet.CallerFrom(ctx).Scope
	if err := s.allow(ctx, c); err != nil {
		return fleet.LocalFunction{}, err
	}
	return s.update(ctx, scope, name, c.Revision, func(f *fleet.LocalFunction) error { return s.settings(scope, f, c) })
}

func (s *Service) update(ctx context.Context, scope fleet.Scope, name, revision string, change func(*fleet.LocalFunction) error) (f fleet.LocalFunction, err error) {
	err = s.Store.Tx(ctx, func(tx *store.Tx) error {
		if f, err = current(tx, scope, name, revision); err != nil {
			return err
		}
		if err := change(&f); err != nil {
			return err
		}
		return s.put(tx, scope, &f)
	})
	return f, err
}

// Function returns a function. It fails with KindNotFound.
func (s *Service) Function(ctx context.Context, name string) (f fleet.LocalFunction, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	err = s.View(ctx, func(tx *store.Tx) (err error) {
		f, err = current(tx, scope, name, "")
		return err
	})
	return f, err
}

// current returns a function of a revision, "" for any.
func current(tx *store.Tx, scope fleet.Scope, name, revision string) (fleet.LocalFunction, error) {
	f, err := tx.LocalFunction(scope, name)
	switch {
	case err != nil && fleet.KindOf(err) == fleet.KindNotFound:
		return f, &fleet.Error{Kind: fleet.KindNotFound, Msg: "Function not found: " + ARN(scope, name)}
	case err == nil && revision != "" && revision != f.Revision:
		return f, &fleet.Error{Kind: fleet.KindVersion, Msg: "The RevisionId provided does not match the latest RevisionId. Call the GetFunction or the GetAlias API to retrieve the latest RevisionId for your resource."}
	}
	return f, err
}

// Delete removes a function; templates that name it refuse every device from then on. It fails with KindNotFound.
func (s *Service) Delete(ctx context.Context, name string) error {
	scope := fleet.CallerFrom(ctx).Scope
	err := s.Store.Tx(ctx, func(tx *store.Tx) error {
		if _, err := current(tx, scope, name, ""); err != nil {
			return err
		}
		return tx.DeleteFunction(scope, name)
	})
	if err == nil {
		s.Forget(scope, name)
		if s.OnDelete != nil {
			s.OnDelete(scope, name)
		}
	}
	return err
}

// Forget ends the processes of a function that is not there any more, and drops what they wrote.
func (s *Service) Forget(scope fleet.Scope, name string) {
	s.Runner.Forget(ARN(scope, name))
	s.outputs.forget(outputKey{scope, name})
}

// allow checks what is not of the function alone: that the caller may hand over the role, and that the runtime is here.
func (s *Service) allow(ctx context.Context, c Change) error {
	if c.Runtime != nil {
		if err := s.Runner.CheckRuntime(*c.Runtime); err != nil {
			text := err.Error()
			return fleet.Invalid("", "", "%s%s", strings.ToUpper(text[:1]), text[1:])
		}
	}
	if c.Role == nil {
		return nil
	}
	err := s.Roles.PassRole(ctx, fleet.CallerFrom(ctx), *c.Role, "lambda.amazonaws.com")
	if err != nil && fleet.KindOf(err) == fleet.KindInvalid {
		err = fleet.Invalid("", "", "The role defined for the function cannot be assumed by Lambda. It does not exist in this account, or its trust policy "+
			"lacks {\"Principal\": {\"Service\": \"lambda.amazonaws.com\"}, \"Action\": \"sts:AssumeRole\"}")
	}
	return err
}

// settings takes over what c says and checks it.
func (s *Service) settings(scope fleet.Scope, f *fleet.LocalFunction, c Change) error {
	for to, from := range map[*string]*string{&f.Runtime: c.Runtime, &f.Handler: c.Handler, &f.Role: c.Role, &f.Description: c.Description, &f.Architecture: c.Architecture} {
		if from != nil {
			*to = *from
		}
	}
	for to, from := range map[*int]*int{&f.Memory: c.Memory, &f.Storage: c.Storage} {
		if from != nil {
			*to = *from
		}
	}
	if c.Timeout != nil {
		if f.Timeout = *c.Timeout; f.Timeout > maxTimeout {
			return fleet.Invalid("", "", "1 validation error detected: Value '%d' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900", f.Timeout/time.Second)
		}
	}
	if c.Environment != nil {
		if err := checkEnvironment(c.Environment); err != nil {
			return err
		}
		f.Environment = s.seal(scope, f.Name, c.Environment)
	}
	return nil
}

// reserved are the variables that Lambda sets itself.
var reserved = []string{"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
	"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
	"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"}

// checkEnvironment tells what is wrong with variables by their names, never by their values.
func checkEnvironment(variables map[string]string) error {
	size := 0
	var taken []string
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		size += len(name) + len(variables[name])
		if slices.Contains(reserved, name) {
			taken = append(taken, name)
		}
		if strings.ContainsRune(variables[name], 0) {
			return fleet.Invalid("", "", "The environment variable %s holds a NUL character", name)
		}
	}
	switch {
	case len(taken) > 0:
		return fleet.Invalid("", "", "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys "+
			"that are currently not supported for modification. Reserved keys used in this request: %s", strings.Join(taken, ", "))
	case size > maxEnvironment:
		return fleet.Invalid("", "", "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. "+
			"Names and values have %d bytes", size)
	}
	return nil
}

// tagsOf is the key of a function's tags.
func tagsOf(name string) string { return "function:" + name }

// maxTags of a function, as in AWS.
const maxTags = 50

func tagList(tags map[string]string) (list []fleet.Tag) {
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, fleet.Tag{Key: key, Value: tags[key]})
	}
	return list
}

// Tags returns the tags of a function. It fails with KindNotFound.
func (s *Service) Tags(ctx context.Context, name string) (tags map[string]string, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	err = s.View(ctx, func(tx *store.Tx) error {
		if _, err := current(tx, scope, name, ""); err != nil {
			return err
		}
		list, err := tx.Tags(scope, tagsOf(name))
		tags = map[string]string{}
		for _, t := range list {
			tags[t.Key] = t.Value
		}
		return err
	})
	return tags, err
}

// Tag sets tags and removes others. Kinds of errors: KindNotFound and KindInvalid.
func (s *Service) Tag(ctx context.Context, name string, set map[string]string, remove []string) error {
	scope := fleet.CallerFrom(ctx).Scope
	return s.Store.Tx(ctx, func(tx *store.Tx) error {
		if _, err := current(tx, scope, name, ""); err != nil {
			return err
		}
		return tag(tx, scope, name, set, remove)
	})
}

func tag(tx *store.Tx, scope fleet.Scope, name string, set map[string]string, remove []string) error {
	for key, value := range set {
		if key == "" || len(key) > 128 || len(value) > 256 || strings.HasPrefix(strings.ToLower(key), "aws:") {
			return fleet.Invalid("", "", "The tag %.150q is not valid: a key has 1 to 128 characters and does not begin with aws:, a value has at most 256", key)
		}
	}
	if err := tx.PutTags(scope, tagsOf(name), tagList(set)); err != nil {
		return err
	}
	if err := tx.RemoveTags(scope, tagsOf(name), remove); err != nil {
		return err
	}
	list, err := tx.Tags(scope, tagsOf(name))
	if err == nil && len(list) > maxTags {
		err = fleet.Invalid("", "", "A function has %d tags at most", maxTags)
	}
	return err
}
