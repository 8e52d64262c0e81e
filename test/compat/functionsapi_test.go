package compat

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nodeModules copies a package that the tests have, and all that it needs, to a function's folder, as npm install would.
func nodeModules(t *testing.T, folder, name string) {
	t.Helper()
	root, err := filepath.EvalSymlinks("node/node_modules")
	check(t, err)
	done := map[string]bool{}
	var add func(name, from string)
	add = func(name, from string) {
		// As Node resolves it: from the folder that asks for it, upwards.
		dir := filepath.Join(from, "node_modules", name)
		if _, err := os.Stat(dir); err != nil {
			if from == filepath.Dir(root) {
				t.Fatalf("the package %s is not installed", name)
			}
			add(name, filepath.Dir(from))
			return
		}
		if done[dir] {
			return
		}
		done[dir] = true
		text, err := os.ReadFile(filepath.Join(dir, "package.json"))
		check(t, err)
		for dependency := range must[struct{ Dependencies map[string]string }](t, string(text)).Dependencies {
			add(dependency, dir)
		}
		relative, err := filepath.Rel(root, dir)
		check(t, err)
		check(t, copyPackage(dir, filepath.Join(folder, "node_modules", relative)))
	}
	add(name, filepath.Dir(root))
}

// copyPackage copies what a program needs of a package: no types, no second form of its code, no packages within.
func copyPackage(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch d.Name() {
		case "node_modules", "dist-types", "dist-es":
			return fs.SkipDir
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, relative), 0o755)
		}
		if ext := filepath.Ext(path); ext != ".js" && ext != ".cjs" && ext != ".mjs" && ext != ".json" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, relative), content, 0o644)
	})
}

const things = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:ListThings","Resource":"*"}]}`

// Libraries that are told nothing: Debian's boto3, which knows only AWS's own host names, and the SDK for JavaScript 3, which reads AWS_ENDPOINT_URL.
func TestFunctionsCallThisServerAsTheyCallAWS(t *testing.T) {
	t.Parallel()
	s, dir := functionServer(t), t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), args...)
	}
	js := folder(t, map[string]string{"index.mjs": `import { IoTClient, ListThingsCommand } from '@aws-sdk/client-iot';
const iot = new IoTClient({});
export const handler = async () => {
  try {
    return (await iot.send(new ListThingsCommand({}))).things.map((thing) => thing.thingName);
  } catch (e) {
    return e.message;
  }
};
`})
	nodeModules(t, js, "@aws-sdk/client-iot")
	run("aws", "iot", "create-thing", "--thing-name", "lamp")
	for name, fn := range map[string][]string{
		"python": {folder(t, map[string]string{"app.py": `import boto3
def handler(event, context):
    iot = boto3.client('iot')
    try:
        return [thing['thingName'] for thing in iot.list_things()['things']]
    except Exception as e:
        return str(e)
`}), "python3.12", "app.handler"},
		"node": {js, "nodejs20.x", "index.handler"},
	} {
		run("aws", "iam", "create-role", "--role-name", name, "--assume-role-policy-document", lambdaTrust)
		run("function", "create", name, "--folder", fn[0], "--runtime", fn[1], "--handler", fn[2], "--timeout", "60s", "--memory", "256", "--role", "arn:aws:iam::"+account+":role/"+name)
		ask := func() (answer any) {
			t.Helper()
			check(t, json.Unmarshal([]byte(run("function", "invoke", "--quiet", name)), &answer))
			return answer
		}
		want := "arn:aws:sts::" + account + ":assumed-role/" + name + "/" + name + " is not authorized to perform: iot:ListThings"
		if got, _ := ask().(string); !strings.Contains(got, want) {
			t.Errorf("%s: its role allows nothing, and it hears %q", name, got)
		}
		run("aws", "iam", "put-role-policy", "--role-name", name, "--policy-name", "things", "--policy-document", things)
		if got, _ := ask().([]any); len(got) != 1 || got[0] != "lamp" {
			t.Errorf("%s: its role allows it, and it hears %v", name, got)
		}
		run("aws", "iam", "delete-role-policy", "--role-name", name, "--policy-name", "things")
		run("aws", "iam", "delete-role", "--role-name", name)
		if out, err := s.try(t, dir, nil, imprint(), "function", "invoke", "--quiet", name); err == nil || !strings.Contains(out, "cannot be assumed by Lambda") {
			t.Errorf("%s without a role: %v, %s", name, err, out)
		}
	}
}
