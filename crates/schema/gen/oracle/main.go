// The oracle answers what upstream's own libraries say: one JSON request a line in, one answer a
// line out. Tests compare with it.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/yaml"
)

type request struct {
	Op     string            `json:"op"`
	A      string            `json:"a"`
	B      string            `json:"b"`
	Kind   []string          `json:"kind"`
	Labels map[string]string `json:"labels"`
}

type answer struct {
	Error  string   `json:"error,omitempty"`
	Text   string   `json:"text"`
	Number int64    `json:"number"`
	Match  bool     `json:"match"`
	List   []string `json:"list"`
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			panic(err)
		}
		a := answer{}
		if err := serve(&r, &a); err != nil {
			a.Error = err.Error()
		}
		encoded, err := json.Marshal(a)
		if err != nil {
			panic(err)
		}
		out.Write(encoded)
		out.WriteByte('\n')
		out.Flush()
	}
}

func serve(r *request, a *answer) error {
	switch r.Op {
	case "quantity":
		return quantity(r, a)
	case "labels":
		return selector(r, a)
	case "fields":
		s, err := fields.ParseSelector(r.A)
		if err != nil {
			return err
		}
		a.Match = s.Matches(fields.Set(r.Labels))
		return nil
	case "yaml":
		converted, err := yaml.YAMLToJSON([]byte(r.A))
		a.Text = string(converted)
		return err
	case "toyaml":
		converted, err := yaml.JSONToYAML([]byte(r.A))
		a.Text = string(converted)
		return err
	case "jsonpatch":
		return jsonPatch(r, a)
	case "mergepatch":
		patched, err := jsonpatch.MergePatch([]byte(r.A), []byte(r.B))
		if err != nil {
			return err
		}
		r.A = string(patched)
		return decode(r, a)
	case "decode":
		return decode(r, a)
	case "strategic":
		return strategic(r, a)
	case "compare":
		return compare(r, a)
	}
	return fmt.Errorf("no operation %q", r.Op)
}

func quantity(r *request, a *answer) error {
	x, err := resource.ParseQuantity(r.A)
	if err != nil {
		return err
	}
	y, err := resource.ParseQuantity(r.B)
	if err != nil {
		return err
	}
	a.Number = int64(x.Cmp(y))
	sum, difference := x.DeepCopy(), x.DeepCopy()
	sum.Add(y)
	difference.Sub(y)
	a.List = []string{x.String(), y.String(), sum.String(), difference.String(), fmt.Sprint(x.Value()), fmt.Sprint(x.MilliValue())}
	return nil
}

func selector(r *request, a *answer) error {
	s, err := labels.Parse(r.A)
	if err != nil {
		return err
	}
	a.Text = s.String()
	a.Match = s.Matches(labels.Set(r.Labels))
	return nil
}

func jsonPatch(r *request, a *answer) error {
	patch, err := jsonpatch.DecodePatch([]byte(r.B))
	if err != nil {
		return err
	}
	patched, err := patch.Apply([]byte(r.A))
	if err != nil {
		return err
	}
	r.A = string(patched)
	return decode(r, a)
}

func newObject(kind []string) (runtime.Object, error) {
	return scheme.Scheme.New(schema.GroupVersionKind{Group: kind[0], Version: kind[1], Kind: kind[2]})
}

func encode(object runtime.Object, a *answer) error {
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(object); err != nil {
		return err
	}
	a.Text = string(bytes.TrimSpace(out.Bytes()))
	return nil
}

func decode(r *request, a *answer) error {
	object, err := newObject(r.Kind)
	if err != nil {
		return err
	}
	strict, err := kjson.UnmarshalStrict([]byte(r.A), object)
	if err != nil {
		return err
	}
	for _, e := range strict {
		a.List = append(a.List, e.Error())
	}
	return encode(object, a)
}

func strategic(r *request, a *answer) error {
	object, err := newObject(r.Kind)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(r.A), object); err != nil {
		return err
	}
	original, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return err
	}
	patch := map[string]interface{}{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(r.B), &patch); err != nil {
		return err
	}
	reference, err := newObject(r.Kind)
	if err != nil {
		return err
	}
	merged, err := strategicpatch.StrategicMergeMapPatch(original, patch, reference)
	if err != nil {
		return err
	}
	result, err := newObject(r.Kind)
	if err != nil {
		return err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(merged, result); err != nil {
		return err
	}
	return encode(result, a)
}

var converter = applyconfigurations.NewTypeConverter(scheme.Scheme)

func typedObject(kind []string, text string) (*typed.TypedValue, error) {
	object, err := newObject(kind)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(text), object); err != nil {
		return nil, err
	}
	object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{Group: kind[0], Version: kind[1], Kind: kind[2]})
	return converter.ObjectToTyped(object, typed.AllowDuplicates)
}

func compare(r *request, a *answer) error {
	left, err := typedObject(r.Kind, r.A)
	if err != nil {
		return err
	}
	right, err := typedObject(r.Kind, r.B)
	if err != nil {
		return err
	}
	comparison, err := left.Compare(right)
	if err != nil {
		return err
	}
	added, err := comparison.Added.ToJSON()
	if err != nil {
		return err
	}
	modified, err := comparison.Modified.ToJSON()
	if err != nil {
		return err
	}
	removed, err := comparison.Removed.ToJSON()
	if err != nil {
		return err
	}
	a.List = []string{string(added), string(modified), string(removed)}
	return nil
}
