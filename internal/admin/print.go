package admin

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Print prints the answer of a command: as JSON, or for people. A struct is a line for each member,
// a slice of structs a table, and what has a String method is that. Names are those of the JSON.
func Print(out io.Writer, asJSON bool, answer any) error {
	if asJSON {
		return json.NewEncoder(out).Encode(answer)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	return cmp.Or(show(table, reflect.ValueOf(answer)), table.Flush())
}

func show(out io.Writer, v reflect.Value) (err error) {
	line := func(cells ...string) {
		_, failed := fmt.Fprintln(out, strings.Join(cells, "\t"))
		err = errors.Join(err, failed)
	}
	if text, ok := v.Interface().(fmt.Stringer); ok {
		line(text.String())
		return err
	}
	if v.Kind() == reflect.Slice {
		members := membersOf(v.Type().Elem())
		row := make([]string, len(members))
		for i, m := range members {
			row[i] = strings.ToUpper(words(m))
		}
		line(row...)
		for i := range v.Len() {
			for j, m := range members {
				row[j] = cell(v.Index(i).FieldByIndex(m.Index))
			}
			line(row...)
		}
		return err
	}
	for _, m := range membersOf(v.Type()) {
		value := v.FieldByIndex(m.Index)
		if _, text := value.Interface().(fmt.Stringer); !text && value.Kind() == reflect.Slice {
			line("\n" + words(m) + ":")
			err = errors.Join(err, show(out, value))
		} else {
			line(words(m) + ": " + cell(value))
		}
	}
	return err
}

// membersOf are the members that encoding/json sees.
func membersOf(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Anonymous })
}

// words are the name of a member: userId is user id.
func words(member reflect.StructField) string {
	var name strings.Builder
	for _, r := range member.Tag.Get("json") {
		if unicode.IsUpper(r) {
			name.WriteByte(' ')
		}
		name.WriteRune(unicode.ToLower(r))
	}
	return name.String()
}

// cell is one value. What is not there is a dash. A text that would do more to a terminal than
// stand there, as the name of a device may, is quoted.
func cell(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return "-"
		}
		v = v.Elem()
	}
	if t, ok := v.Interface().(time.Time); ok {
		return t.Format(time.RFC3339)
	}
	text := fmt.Sprint(v.Interface())
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return cmp.Or(text, "-")
}
