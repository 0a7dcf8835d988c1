package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// As in Argo CD's settings: a key for each script, with an underscore between group and kind.
const healthKey = "resource.customizations.health."

// As in Argo CD's util/lua: what a script has of Lua's own library, and for how long it may run.
var (
	libraries = map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage,
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	}
	patience = time.Second
	words    = []string{"Unknown", "Progressing", "Suspended", "Healthy", "Degraded", "Missing"}
)

// Health scripts by group/kind.
type scripts map[string]string

func readScripts(path string) (scripts, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var configMap struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.Unmarshal(text, &configMap); err != nil {
		return nil, err
	}
	found := scripts{}
	for key, script := range configMap.Data {
		if kind, ok := strings.CutPrefix(key, healthKey); ok {
			found[strings.Replace(kind, "_", "/", 1)] = script
		}
	}
	return found, nil
}

// The health of an object; without words for a kind that no script is for.
func (found scripts) health(object *unstructured.Unstructured) (verdict, error) {
	script, ok := found[object.GroupVersionKind().Group+"/"+object.GetKind()]
	if !ok {
		return verdict{}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	state.SetContext(ctx)
	for name, open := range libraries {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return verdict{}, err
		}
	}
	state.SetGlobal("obj", toLua(state, object.Object))
	if err := state.DoString(script); err != nil {
		return verdict{}, err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return verdict{}, fmt.Errorf("the script answers with a %s, not a table", state.Get(-1).Type())
	}
	said := verdict{lua.LVAsString(answer.RawGetString("status")), lua.LVAsString(answer.RawGetString("message"))}
	if !slices.Contains(words, said.Status) {
		return verdict{}, fmt.Errorf("the script answers %q, which is no health", said.Status)
	}
	return said, nil
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		list := state.CreateTable(len(value), 0)
		for _, item := range value {
			list.Append(toLua(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	}
	return lua.LNil
}
