package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// markers are the `+name=value` lines of a comment.
type markers map[string][]string

func (m markers) has(name string) bool { return len(m[name]) > 0 }

func (m markers) all(name string) []string { return m[name] }

func (m markers) first(name string) string {
	if len(m[name]) == 0 {
		return ""
	}
	return m[name][0]
}

type packageSource struct {
	types     map[string]markers
	fields    map[string]markers
	constants map[string]string
	enums     map[string][]string
}

// sources reads the packages' Go files, once each.
type sources struct {
	packages map[string]*packageSource
}

func newSources() *sources { return &sources{packages: map[string]*packageSource{}} }

func (s *sources) load(path string) *packageSource {
	if source := s.packages[path]; source != nil {
		return source
	}
	source := &packageSource{
		types: map[string]markers{}, fields: map[string]markers{},
		constants: map[string]string{}, enums: map[string][]string{},
	}
	s.packages[path] = source
	if !strings.Contains(path, ".") {
		return source
	}
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		fatal("go list %s: %v", path, err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil {
		fatal("%v", err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "generated") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			fatal("%v", err)
		}
		for _, declaration := range file.Decls {
			if general, ok := declaration.(*ast.GenDecl); ok {
				source.read(general)
			}
		}
	}
	return source
}

func (p *packageSource) read(declaration *ast.GenDecl) {
	for _, spec := range declaration.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			doc := spec.Doc
			if doc == nil {
				doc = declaration.Doc
			}
			p.types[spec.Name.Name] = parseMarkers(doc)
			if body, ok := spec.Type.(*ast.StructType); ok {
				p.readFields(spec.Name.Name, body)
			}
		case *ast.ValueSpec:
			p.readConstants(spec)
		}
	}
}

func (p *packageSource) readFields(owner string, body *ast.StructType) {
	for _, field := range body.Fields.List {
		for _, name := range field.Names {
			p.fields[owner+"."+name.Name] = parseMarkers(field.Doc)
		}
		if len(field.Names) == 0 {
			if name := embeddedName(field.Type); name != "" {
				p.fields[owner+"."+name] = parseMarkers(field.Doc)
			}
		}
	}
}

func embeddedName(expression ast.Expr) string {
	switch expression := expression.(type) {
	case *ast.Ident:
		return expression.Name
	case *ast.SelectorExpr:
		return expression.Sel.Name
	case *ast.StarExpr:
		return embeddedName(expression.X)
	}
	return ""
}

func (p *packageSource) readConstants(spec *ast.ValueSpec) {
	for i, name := range spec.Names {
		if i >= len(spec.Values) {
			continue
		}
		literal, ok := spec.Values[i].(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			continue
		}
		value, err := strconv.Unquote(literal.Value)
		if err != nil {
			fatal("%v", err)
		}
		p.constants[name.Name] = value
		if typ, ok := spec.Type.(*ast.Ident); ok {
			p.enums[typ.Name] = append(p.enums[typ.Name], value)
		}
	}
}

func parseMarkers(doc *ast.CommentGroup) markers {
	found := markers{}
	if doc == nil {
		return found
	}
	for _, comment := range doc.List {
		for _, line := range strings.Split(comment.Text, "\n") {
			line = strings.TrimSpace(strings.TrimLeft(line, "/* \t"))
			marker, ok := strings.CutPrefix(line, "+")
			if !ok || marker == "" {
				continue
			}
			name, value, _ := strings.Cut(marker, "=")
			found[strings.TrimSpace(name)] = append(found[strings.TrimSpace(name)], strings.TrimSpace(value))
		}
	}
	return found
}

func (s *sources) typeMarkers(typ reflect.Type) markers {
	if typ.Name() == "" || typ.PkgPath() == "" {
		return markers{}
	}
	return s.load(typ.PkgPath()).types[typ.Name()]
}

func (s *sources) fieldMarkers(owner reflect.Type, field string) markers {
	return s.load(owner.PkgPath()).fields[owner.Name()+"."+field]
}

// enumValues are the constants of a type that is marked as an enumeration.
func (s *sources) enumValues(typ reflect.Type) []string {
	if typ.Kind() != reflect.String || typ.PkgPath() == "" {
		return nil
	}
	source := s.load(typ.PkgPath())
	if marks := source.types[typ.Name()]; !marks.has("enum") && !marks.has("k8s:enum") {
		return nil
	}
	values := slices.Clone(source.enums[typ.Name()])
	slices.Sort(values)
	return slices.Compact(values)
}

func (s *sources) constant(pkg, name string) string {
	value, ok := s.load(pkg).constants[name]
	if !ok {
		fatal("no constant %s in %s", name, pkg)
	}
	return value
}
