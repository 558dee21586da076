// The generator of the type catalogue: reflects over the published API types and reads the comment
// markers of their sources.
//
//	cd crates/schema/gen && go run . > ../data/catalogue.txt
package main

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

type structInfo struct {
	name  string
	typ   reflect.Type
	kinds []string
	lines []string
	marks []string
}

type generator struct {
	structs map[string]*structInfo
	sources *sources
}

func main() {
	scheme := runtime.NewScheme()
	for _, add := range groups {
		if err := add(scheme); err != nil {
			fatal("%v", err)
		}
	}
	g := &generator{structs: map[string]*structInfo{}, sources: newSources()}
	for gvk, typ := range scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		info := g.add(typ)
		info.kinds = append(info.kinds, gvk.GroupVersion().String()+" "+gvk.Kind)
	}
	g.print()
}

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// openAPIName turns a Go package path and name into the name used in OpenAPI documents.
func openAPIName(typ reflect.Type) (pkg, name string) {
	host, rest, _ := strings.Cut(typ.PkgPath(), "/")
	parts := strings.Split(host, ".")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, ".") + "." + strings.ReplaceAll(rest, "/", "."), typ.Name()
}

func (g *generator) add(typ reflect.Type) *structInfo {
	pkg, name := openAPIName(typ)
	full := pkg + "." + name
	if info := g.structs[full]; info != nil {
		return info
	}
	info := &structInfo{name: full, typ: typ}
	g.structs[full] = info
	switch name {
	case "JSONSchemaPropsOrBool":
		info.marks = append(info.marks, "form=bool")
	case "JSONSchemaPropsOrArray":
		info.marks = append(info.marks, "form=array")
	case "JSONSchemaPropsOrStringArray":
		info.marks = append(info.marks, "form=strings")
	}
	if !marshals(typ) {
		info.marks = append(info.marks, "noproto")
	}
	if g.sources.typeMarkers(typ).first("structType") == "atomic" {
		info.marks = append(info.marks, "atomic")
	}
	g.fields(info, typ, pkg, "", "", true)
	return info
}

type marshaler interface{ Marshal() ([]byte, error) }

var marshalerType = reflect.TypeOf((*marshaler)(nil)).Elem()

func marshals(typ reflect.Type) bool {
	return reflect.PointerTo(typ).Implements(marshalerType)
}

// fields appends the fields of typ, those of embedded structs in place. Without proto, typ is
// embedded in a way that protobuf does not see.
func (g *generator) fields(info *structInfo, typ reflect.Type, pkg, path, embedded string, proto bool) {
	for i := range typ.NumField() {
		field := typ.Field(i)
		tag, _ := field.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		if name == "-" || !field.IsExported() {
			continue
		}
		// Unions of the schema forms have no JSON tags; their names are only used inside.
		if tag == "" && !field.Anonymous {
			name = strings.ToLower(field.Name[:1]) + field.Name[1:]
		}
		tagPath := path
		number := protoNumber(field)
		inProto := proto && number != ""
		if inProto {
			tagPath += number
		} else {
			tagPath = ""
		}
		if field.Anonymous && name == "" {
			inner := field.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
				tagPath += "*"
			}
			if inProto {
				tagPath += "."
			}
			name := strings.TrimPrefix(embedded+"."+field.Name, ".")
			g.fields(info, inner, pkg, tagPath, name, inProto)
			continue
		}
		if name == "" {
			fatal("%s.%s has no JSON name", info.name, field.Name)
		}
		info.lines = append(info.lines, g.line(field, typ, pkg, name, options, tagPath, embedded))
	}
}

func protoNumber(field reflect.StructField) string {
	tag := field.Tag.Get("protobuf")
	if tag == "" || tag == "-" {
		return ""
	}
	return strings.Split(tag, ",")[1]
}

func (g *generator) line(field reflect.StructField, owner reflect.Type, pkg, name, options, path, embedded string) string {
	typ := field.Type
	pointer := typ.Kind() == reflect.Pointer
	if pointer {
		typ = typ.Elem()
	}
	text, items := g.typeText(typ, pkg)
	words := []string{name, text}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if pointer {
		add("*")
	}
	if path != "" {
		add("#%s", path)
	}
	if items {
		add("items")
	}
	for _, option := range strings.Split(options, ",") {
		switch option {
		case "", "inline":
		case "omitempty", "omitzero":
			add("%s", option)
		default:
			fatal("%s.%s: unknown JSON option %q", owner, field.Name, option)
		}
	}
	markers := g.sources.fieldMarkers(owner, field.Name)
	required := !strings.Contains(options, "omitempty")
	if markers.has("required") {
		required = true
	} else if markers.has("optional") {
		required = false
	}
	if required && name != "metadata" && name != "kind" && name != "apiVersion" || markers.has("required") {
		add("required")
	}
	if embedded != "" {
		add("in=%s", embedded)
	}
	if derived := derivedGoType(typ); derived != strings.ReplaceAll(typ.String(), " ", "") {
		add("go=%s", strings.ReplaceAll(typ.String(), " ", ""))
	}
	g.listMarks(markers, g.sources.typeMarkers(typ), add)
	if strategy := field.Tag.Get("patchStrategy"); strategy != "" {
		add("ps=%s", strategy)
	}
	if key := field.Tag.Get("patchMergeKey"); key != "" {
		add("pmk=%s", key)
	}
	if values := g.sources.enumValues(element(typ)); len(values) > 0 {
		add("enum=%s", strings.ReplaceAll(strings.Join(values, "|"), " ", "%20"))
	}
	if text, ok := g.defaultValue(markers, owner, typ); ok {
		add("default=%s", text)
	}
	return strings.Join(words, " ")
}

// derivedGoType is the type's name as it follows from the catalogue's own type.
func derivedGoType(typ reflect.Type) string {
	switch typ.Kind() {
	case reflect.Slice:
		return "[]" + derivedGoType(typ.Elem())
	case reflect.Map:
		return "map[string]" + derivedGoType(typ.Elem())
	case reflect.Struct, reflect.Pointer, reflect.Interface:
		return strings.ReplaceAll(typ.String(), " ", "")
	case reflect.Int:
		return "int64"
	}
	return typ.Kind().String()
}

func element(typ reflect.Type) reflect.Type {
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map || typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return typ
}

func (g *generator) listMarks(markers, typeMarkers markers, add func(string, ...any)) {
	first := func(keys ...string) string {
		for _, key := range keys {
			if value := markers.first(key); value != "" {
				return value
			}
			if value := typeMarkers.first(key); value != "" {
				return value
			}
		}
		return ""
	}
	switch list := first("listType", "k8s:listType"); list {
	case "":
	case "map":
		keys := markers.all("listMapKey")
		if len(keys) == 0 {
			keys = markers.all("k8s:listMapKey")
		}
		add("list=map:%s", strings.Join(keys, ","))
	default:
		add("list=%s", list)
	}
	if first("mapType") == "atomic" {
		add("map=atomic")
	}
	if kind := markers.first("structType"); kind == "atomic" || kind == "granular" {
		add("struct=%s", kind)
	}
}

func (g *generator) defaultValue(markers markers, owner, typ reflect.Type) (string, bool) {
	if !markers.has("default") {
		return "", false
	}
	value := markers.first("default")
	if inner, ok := strings.CutPrefix(value, "ref("); ok {
		constant := strings.TrimSuffix(inner, ")")
		return strconv.Quote(g.sources.constant(owner.PkgPath(), constant)), true
	}
	return value, true
}

// typeText also says whether the innermost list is a protobuf message of its own.
func (g *generator) typeText(typ reflect.Type, pkg string) (string, bool) {
	switch typ.PkgPath() + "." + typ.Name() {
	case "k8s.io/apimachinery/pkg/apis/meta/v1.Time":
		return "time", false
	case "k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":
		return "microtime", false
	case "k8s.io/apimachinery/pkg/apis/meta/v1.Duration":
		return "duration", false
	case "k8s.io/apimachinery/pkg/util/intstr.IntOrString":
		return "intorstring", false
	case "k8s.io/apimachinery/pkg/api/resource.Quantity":
		return "quantity", false
	case "k8s.io/apimachinery/pkg/runtime.RawExtension",
		"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON",
		"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1.JSON":
		return "raw", false
	case "k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":
		return "fieldsv1", false
	}
	switch typ.Kind() {
	case reflect.Bool:
		return "bool", false
	case reflect.Int32:
		return "int32", false
	case reflect.Int64, reflect.Int:
		return "int64", false
	case reflect.Uint32:
		return "uint32", false
	case reflect.Uint64:
		return "uint64", false
	case reflect.Float64:
		return "float64", false
	case reflect.String:
		return "string", false
	case reflect.Interface:
		return "any", false
	case reflect.Struct:
		g.add(typ)
		inner, name := openAPIName(typ)
		if inner == pkg {
			return "." + name, false
		}
		return inner + "." + name, false
	case reflect.Pointer:
		fmt.Fprintf(os.Stderr, "pointer items: %s\n", typ)
		return g.typeText(typ.Elem(), pkg)
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return "bytes", false
		}
		text, _ := g.typeText(typ.Elem(), pkg)
		return "[]" + text, typ.Name() != "" && marshals(typ)
	case reflect.Map:
		text, items := g.typeText(typ.Elem(), pkg)
		return "{}" + text, items
	}
	fatal("no text for type %s", typ)
	return "", false
}

func (g *generator) print() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, "# Generated by gen/main.go from the API modules at v0.37.2. Do not edit.")
	names := make([]string, 0, len(g.structs))
	for name := range g.structs {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		pi, ni := openAPIName(g.structs[names[i]].typ)
		pj, nj := openAPIName(g.structs[names[j]].typ)
		if pi != pj {
			return pi < pj
		}
		return ni < nj
	})
	last := ""
	for _, full := range names {
		info := g.structs[full]
		pkg, name := openAPIName(info.typ)
		if pkg != last {
			fmt.Fprintf(out, "package %s\n", pkg)
			last = pkg
		}
		fmt.Fprintln(out, strings.Join(append([]string{"struct", name}, info.marks...), " "))
		sort.Strings(info.kinds)
		for _, kind := range info.kinds {
			fmt.Fprintf(out, "= %s\n", kind)
		}
		for _, line := range info.lines {
			fmt.Fprintf(out, "  %s\n", line)
		}
	}
}
