package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/afterimage-dr/afterimage/operator/config"
)

// kindSchema validates the objects of one kind as the API server does.
type kindSchema struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

// schemas returns the schema of each kind, keyed by "<apiVersion> <kind>", from
// the CRDs that are shipped. They are compiled once.
var schemas = sync.OnceValues(func() (map[string]*kindSchema, error) {
	files, err := fs.Glob(config.CRDs, "crd/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing the built-in CRDs: %w", err)
	}
	out := make(map[string]*kindSchema)
	for _, file := range files {
		data, err := config.CRDs.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the built-in CRD %s: %w", file, err)
		}
		if err := compileCRD(data, out); err != nil {
			return nil, fmt.Errorf("built-in CRD %s: %w", file, err)
		}
	}
	return out, nil
})

func compileCRD(data []byte, out map[string]*kindSchema) error {
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &crd); err != nil {
		return err
	}
	for _, version := range crd.Spec.Versions {
		if version.Schema == nil || version.Schema.OpenAPIV3Schema == nil {
			return errors.New("a version has no schema")
		}
		var internal apiextensions.JSONSchemaProps
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &internal, nil); err != nil {
			return fmt.Errorf("converting the schema: %w", err)
		}
		structural, err := schema.NewStructural(&internal)
		if err != nil {
			return fmt.Errorf("the schema is not structural: %w", err)
		}
		validator, _, err := validation.NewSchemaValidator(&internal)
		if err != nil {
			return fmt.Errorf("compiling the schema: %w", err)
		}
		out[crd.Spec.Group+"/"+version.Name+" "+crd.Spec.Names.Kind] = &kindSchema{
			structural: structural,
			validator:  validator,
			rules:      cel.NewValidator(structural, true, celconfig.PerCallLimit),
		}
	}
	return nil
}

// check does with an object what the API server does on create, in its order:
// unknown fields, defaults, schema, lists, rules. Unknown fields are refused, as
// strict kubectl apply refuses them. The object is changed: defaults are filled in.
func (s *kindSchema) check(object map[string]any) (unknown []string, errs field.ErrorList) {
	unknown = pruning.PruneWithOptions(object, s.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(object, s.structural)
	fieldErr, more := objectmeta.CoerceWithOptions(nil, object, s.structural, true, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	unknown = append(unknown, more...)
	if fieldErr != nil {
		return unknown, field.ErrorList{fieldErr}
	}
	defaulting.Default(object, s.structural)

	errs = append(errs, validation.ValidateCustomResource(nil, object, s.validator)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, object)...)
	// Rules assume what the schema promises, so they have nothing to say before
	// it holds. The API server leaves them out too.
	if len(errs) == 0 && s.rules != nil {
		found, _ := s.rules.Validate(context.Background(), nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, found...)
	}
	return unknown, errs
}

// property returns the schema of the field at a path; nil when there is none.
func (s *kindSchema) property(path string) *schema.Structural {
	at := s.structural
	for _, step := range steps(path) {
		switch {
		case at == nil:
			return nil
		case at.Items != nil:
			at = at.Items
		default:
			next, ok := at.Properties[step]
			if !ok {
				return nil
			}
			at = &next
		}
	}
	return at
}
