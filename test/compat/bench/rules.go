package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
)

// ruleScenes are what a message meets: each of its rules, from none to one that publishes it anew.
var ruleScenes = []struct {
	name string
	sql  string // of the rule; "" is none
}{
	{"no rule", ""},
	{"a rule for other topics", `SELECT * FROM 'elsewhere/+/state'`},
	{"a rule whose WHERE is false", `SELECT * FROM 'lamps/+/state' WHERE on = false`},
	{"a rule that publishes it anew", `SELECT *, topic(2) AS lamp FROM 'lamps/+/state'`},
}

// measureRules has each worker publish at QoS 1 on a connection that stays, in turns with each of the scenes. Nobody subscribes.
func measureRules(ctx context.Context, o options, w *world) (map[string]*figures, error) {
	if len(w.devices) < o.workers {
		return nil, fmt.Errorf("only %d devices were provisioned: run flow before", len(w.devices))
	}
	role := "bench-rules"
	if err := w.ruleRole(ctx, role); err != nil {
		return nil, err
	}
	sessions := make([]*session, o.workers)
	for i := range sessions {
		d := w.devices[i]
		s, err := dial(w.addr, w.tls, d.cert, d.thing)
		if err != nil {
			return nil, err
		}
		defer s.close()
		sessions[i] = s
	}
	all := map[string]*figures{}
	for _, scene := range ruleScenes {
		if scene.sql != "" {
			payload := object{"sql": scene.sql, "awsIotSqlVersion": "2016-03-23", "actions": []object{{"republish": object{"topic": "again/${topic(2)}", "qos": 1,
				"roleArn": "arn:aws:iam::000000000000:role/" + role}}}}
			if err := w.admin.REST(ctx, "iot", http.MethodPost, "/rules/bench", payload, nil); err != nil {
				return nil, err
			}
		}
		f, err := measure(o, w, o.workers, func(worker int) error {
			return sessions[worker].publish(w.devices[worker].topic(), []byte(`{"on":true,"brightness":80}`))
		})
		if err != nil {
			return nil, err
		}
		all[scene.name] = f
		if scene.sql != "" {
			if err := w.admin.REST(ctx, "iot", http.MethodDelete, "/rules/bench", nil, nil); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// ruleRole makes a role in which a rule may publish.
func (w *world) ruleRole(ctx context.Context, name string) error {
	may := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*"}}
	if err := w.admin.Query(ctx, "iam", "2010-05-08", "CreateRole", map[string]string{"RoleName": name, "AssumeRolePolicyDocument": document(trustIoT)}, nil); err != nil {
		return err
	}
	return w.admin.Query(ctx, "iam", "2010-05-08", "PutRolePolicy", map[string]string{"RoleName": name, "PolicyName": "publish", "PolicyDocument": document(may)}, nil)
}

func printRules(out io.Writer, rules map[string]*figures) {
	none := rules[ruleScenes[0].name]
	if none == nil {
		return
	}
	fmt.Fprintln(out, "\nA message at QoS 1, until its PUBACK:")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\t/s\tserver µs\tratio\tp50 ms\tp99 ms\t")
	for _, scene := range ruleScenes {
		if f := rules[scene.name]; f != nil {
			fmt.Fprintf(t, "%s\t%.0f\t%.1f\t%.2f\t%.1f\t%.1f\t\n", scene.name, f.PerSecond, f.ServerMicros, f.ServerMicros/none.ServerMicros, f.P50Millis, f.P99Millis)
		}
	}
	t.Flush()
}
