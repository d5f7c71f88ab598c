package topology

import (
	"strings"
	"testing"
)

func benchmarkApply(b *testing.B, replication, key, body string) {
	r := compile(b, replication)
	rec := record(key, body)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if v := r.Apply(rec); !v.InScope || v.Err != nil {
			b.Fatalf("%+v", v)
		}
	}
}

func configMap1KiB() string {
	return `{"apiVersion":"v1","data":{"payload":"` + strings.Repeat("x", 700) + `"},"kind":"ConfigMap","metadata":{"creationTimestamp":"2026-11-23T00:00:00Z","labels":{"app":"bench","tier":"a"},"name":"cm-1","namespace":"ns","resourceVersion":"123456","uid":"0e4c2f5e-0000-4000-8000-000000000000"}}`
}

func BenchmarkApplyConfigMap1KiB(b *testing.B) {
	benchmarkApply(b, onlyConfigMaps, "core/v1/configmaps/ns/cm-1", configMap1KiB())
}

func BenchmarkApplyFilteredAndPatched(b *testing.B) {
	benchmarkApply(b, `{"resources":[{"version":"v1","resource":"configmaps",
		"filters":{"nameSelector":{"regex":["cm-.*"]},"selector":{"matchLabels":{"app":"bench"}},"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"ns"}}},
		"transformation":{"patch":[{"op":"add","path":"/data/extra","value":"y"}]}}]}`, "core/v1/configmaps/ns/cm-1", configMap1KiB())
}

func BenchmarkApplyService(b *testing.B) {
	benchmarkApply(b, `{"resources":[{"version":"v1","resource":"services"}]}`, "core/v1/services/ns/s",
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"s","namespace":"ns","uid":"u","resourceVersion":"5"},"spec":{"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ipFamilies":["IPv4"],"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":8080,"nodePort":30080}],"selector":{"app":"s"},"type":"NodePort"},"status":{"loadBalancer":{}}}`)
}
