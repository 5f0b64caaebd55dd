// Package deploy checks the deployments in examples/deploy with the programs
// and libraries that will read them: Compose files with Compose's own loader,
// the Swarm stack with that of docker stack deploy, the Dockerfile with the
// rules of docker build --check, Kubernetes manifests by kustomize and the
// types of its API, units by systemd-analyze and keepalived's file by keepalived
// itself. What several files of a deployment say of the same thing has to agree.
//
// It is a module of its own so that what it depends on stays out of the
// plug-in. That the Caddyfiles work is tested in internal/integration.
package deploy
