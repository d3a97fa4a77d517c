package firmwarepolicy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/governed-execution/writ/attest"
)

// EncodeFacts writes facts as JSON with the names that policies use, for people and for policy tests.
func EncodeFacts(c attest.Claims) ([]byte, error) {
	out, err := json.MarshalIndent(named(reflect.ValueOf(c)), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding facts: %w", err)
	}
	return append(out, '\n'), nil
}

// DecodeFacts reads what EncodeFacts writes. A name that is no fact is an error. What it returns proves nothing.
func DecodeFacts(data []byte) (attest.Claims, error) {
	tree, err := factTree(data)
	if err != nil {
		return attest.Claims{}, err
	}
	return factsOf(tree)
}

func factTree(data []byte) (map[string]any, error) {
	var tree map[string]any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("reading facts: %w", err)
	}
	if tree == nil {
		return nil, fmt.Errorf("reading facts: null is no facts")
	}
	if dec.More() {
		return nil, fmt.Errorf("reading facts: something follows the JSON object")
	}
	return tree, nil
}

func factsOf(tree map[string]any) (attest.Claims, error) {
	var c attest.Claims
	if err := assign(reflect.ValueOf(&c).Elem(), tree, "facts"); err != nil {
		return attest.Claims{}, fmt.Errorf("reading facts: %w", err)
	}
	return c, nil
}

// named turns a value into maps, lists and scalars, with struct fields under their cel tags.
func named(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			out[v.Type().Field(i).Tag.Get("cel")] = named(v.Field(i))
		}
		return out
	case reflect.Slice:
		out := []any{}
		for i := range v.Len() {
			out = append(out, named(v.Index(i)))
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, k := range v.MapKeys() {
			out[fmt.Sprint(k.Interface())] = named(v.MapIndex(k))
		}
		return out
	}
	return v.Interface()
}

// assign is the inverse of named, for values that JSON or TOML gave.
func assign(v reflect.Value, from any, path string) error {
	switch v.Kind() {
	case reflect.Struct:
		return assignStruct(v, from, path)
	case reflect.Slice:
		list, ok := from.([]any)
		if !ok {
			return fmt.Errorf("%s is not a list", path)
		}
		v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
		for i, e := range list {
			if err := assign(v.Index(i), e, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Map:
		return assignMap(v, from, path)
	}
	return assignScalar(v, from, path)
}

func assignStruct(v reflect.Value, from any, path string) error {
	tree, ok := from.(map[string]any)
	if !ok {
		return fmt.Errorf("%s is not an object", path)
	}
	known := map[string]int{}
	for i := range v.NumField() {
		known[v.Type().Field(i).Tag.Get("cel")] = i
	}
	for _, key := range sortedKeys(tree) {
		i, ok := known[key]
		if !ok {
			return fmt.Errorf("%s has no %q", path, key)
		}
		if err := assign(v.Field(i), tree[key], path+"."+key); err != nil {
			return err
		}
	}
	return nil
}

func assignMap(v reflect.Value, from any, path string) error {
	tree, ok := from.(map[string]any)
	if !ok {
		return fmt.Errorf("%s is not an object", path)
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, key := range sortedKeys(tree) {
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if err := assignScalar(k, key, path); err != nil {
			return err
		}
		if err := assign(e, tree[key], path+"."+key); err != nil {
			return err
		}
		v.SetMapIndex(k, e)
	}
	return nil
}

func assignScalar(v reflect.Value, from any, path string) error {
	text := fmt.Sprint(from)
	_, isText := from.(string)
	_, isBool := from.(bool)
	var err error
	switch v.Kind() {
	case reflect.String:
		if !isText {
			return fmt.Errorf("%s is not a text", path)
		}
		v.SetString(text)
	case reflect.Bool:
		if !isBool {
			return fmt.Errorf("%s is not true or false", path)
		}
		v.SetBool(from.(bool))
	case reflect.Uint64:
		var n uint64
		n, err = strconv.ParseUint(text, 10, 64)
		v.SetUint(n)
	case reflect.Int64:
		var n int64
		n, err = strconv.ParseInt(text, 10, 64)
		v.SetInt(n)
	default:
		return fmt.Errorf("%s has a type that facts do not have", path)
	}
	if err != nil {
		return fmt.Errorf("%s is not a whole number that fits", path)
	}
	return nil
}
