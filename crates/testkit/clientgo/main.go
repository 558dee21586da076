// Command clientgo is a client as most programs of the ecosystem are: client-go, speaking protobuf, with an informer
// that begins with a watch (sendInitialEvents). It says on each line what it saw; the test compares.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const namespace = "default"
const protobuf = "application/vnd.kubernetes.protobuf"

// seen keeps what went over the wire.
type seen struct {
	http.RoundTripper
	sync.Mutex
	lists, initial, other int
}

func (s *seen) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := s.RoundTripper.RoundTrip(request)
	s.Lock()
	defer s.Unlock()
	query := request.URL.Query()
	switch {
	case query.Get("sendInitialEvents") == "true":
		s.initial++
	case request.Method == http.MethodGet && strings.HasSuffix(request.URL.Path, "/configmaps") && query.Get("watch") == "":
		s.lists++
	}
	if err == nil && !strings.HasPrefix(response.Header.Get("Content-Type"), protobuf) {
		s.other++
	}
	return response, err
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func connect(kubeconfig string, wire *seen) rest.Interface {
	scheme := runtime.NewScheme()
	check(corev1.AddToScheme(scheme))
	config := must(clientcmd.BuildConfigFromFlags("", kubeconfig))
	config.APIPath, config.GroupVersion = "/api", &corev1.SchemeGroupVersion
	config.ContentType, config.AcceptContentTypes = protobuf, protobuf
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.Wrap(func(inner http.RoundTripper) http.RoundTripper { wire.RoundTripper = inner; return wire })
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	return must(rest.RESTClientFor(config))
}

// told turns an informer's calls into lines.
func told(lines chan string) cache.ResourceEventHandler {
	line := func(what string, object any) {
		if gone, is := object.(cache.DeletedFinalStateUnknown); is {
			object = gone.Obj
		}
		config := object.(*corev1.ConfigMap)
		lines <- fmt.Sprintf("%s %s=%s", what, config.Name, config.Data["v"])
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { line("added", object) },
		UpdateFunc: func(_, object any) { line("updated", object) },
		DeleteFunc: func(object any) { line("deleted", object) },
	}
}

// next is the next line about an object of ours.
func next(lines chan string) string {
	deadline := time.After(20 * time.Second)
	for {
		select {
		case line := <-lines:
			if strings.Contains(line, " go") {
				return line
			}
		case <-deadline:
			return "nothing"
		}
	}
}

func main() {
	ctx, wire, lines := context.Background(), &seen{}, make(chan string, 1000)
	client := connect(os.Args[1], wire)
	request := func(verb string) *rest.Request {
		return client.Verb(verb).Namespace(namespace).Resource("configmaps").VersionedParams(&metav1.CreateOptions{}, metav1.ParameterCodec)
	}
	do := func(request *rest.Request) *corev1.ConfigMap {
		object := &corev1.ConfigMap{}
		check(request.Do(ctx).Into(object))
		return object
	}
	listWatch := cache.NewListWatchFromClient(client, "configmaps", namespace, fields.Everything())
	informer := cache.NewSharedInformer(listWatch, &corev1.ConfigMap{}, 0)
	must(informer.AddEventHandler(told(lines)))
	go informer.Run(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		check(fmt.Errorf("the informer did not sync"))
	}
	fmt.Println("synced", len(informer.GetStore().List()))

	config := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "go", Labels: map[string]string{"by": "client-go"}},
		Data:       map[string]string{"v": "1"}, BinaryData: map[string][]byte{"b": {0, 255, 7}},
	}
	made := do(request("POST").Body(config))
	fmt.Println("created", made.Name, len(made.UID) > 0, made.BinaryData["b"], len(made.ManagedFields))
	fmt.Println(next(lines))
	err := request("POST").Body(config).Do(ctx).Error()
	fmt.Println("again:", apierrors.IsAlreadyExists(err), err)

	made.Data["v"] = "2"
	do(request("PUT").Name("go").Body(made))
	fmt.Println(next(lines))
	err = request("PUT").Name("go").Body(made).Do(ctx).Error()
	fmt.Println("stale:", apierrors.IsConflict(err))

	patch := func(kind types.PatchType, body string) {
		do(client.Patch(kind).Namespace(namespace).Resource("configmaps").Name("go").Param("fieldManager", "go").Body([]byte(body)))
		fmt.Println(next(lines))
	}
	patch(types.MergePatchType, `{"data":{"v":"3"}}`)
	patch(types.StrategicMergePatchType, `{"data":{"v":"4"}}`)
	patch(types.JSONPatchType, `[{"op":"replace","path":"/data/v","value":"5"}]`)
	fmt.Println("read", do(request("GET").Name("go")).Data["v"])
	list := &corev1.ConfigMapList{}
	check(client.Get().Namespace(namespace).Resource("configmaps").Param("labelSelector", "by=client-go").Do(ctx).Into(list))
	fmt.Println("listed", len(list.Items), list.ResourceVersion != "")

	check(client.Delete().Namespace(namespace).Resource("configmaps").Name("go").Body(&metav1.DeleteOptions{}).Do(ctx).Error())
	fmt.Println(next(lines))
	err = request("GET").Name("go").Do(ctx).Error()
	fmt.Println("gone:", apierrors.IsNotFound(err), err)
	wire.Lock()
	defer wire.Unlock()
	fmt.Printf("wire: %d watches with initial events, %d lists, %d answers in another encoding\n", wire.initial, wire.lists, wire.other)
}
