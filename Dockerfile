# All images of truenroll-edge, one target each: envoy, backend, simulator, module, filter.
#
#   docker build --target backend -t truenroll-edge-backend .
#
# Works with BuildKit and with the legacy builder, which builds every stage before the target, in
# the order of this file. Hence the order: the filter, which changes most often, comes last. Each
# program is built in a stage of its own, from its own sources only, so a change rebuilds only the
# images that contain it. The stage `dependencies` is rebuilt only when a manifest, Cargo.lock or the
# set of programs changes.

# The base images. To pin one by its digest, append the digest, for example
# --build-arg RUST_IMAGE=rust:1.95-bookworm@sha256:…
# `docker buildx imagetools inspect rust:1.95-bookworm` prints it.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG ENVOY_IMAGE=envoyproxy/envoy:v1.40.0

# For the images' labels. The programs also print the revision.
ARG VERSION=0.1.0
ARG BUILD_REVISION=
ARG SOURCE=

# The files that every program needs at run time: glibc, root certificates, and a user without
# rights. The entries in status.d tell vulnerability scanners which packages these files come from.
FROM ${DEBIAN_IMAGE} AS runtime
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libgcc-s1 \
 && rm -rf /var/lib/apt/lists/*
RUN mkdir -p /runtime/var/lib/dpkg/status.d /empty \
 && for library in libc.so.6 libdl.so.2 libgcc_s.so.1 libm.so.6 libpthread.so.0 libresolv.so.2 librt.so.1; do \
      cp --parents --dereference /lib/*-linux-gnu/$library /runtime; \
    done \
 && cp --parents --dereference /lib*/ld-linux-*.so.* /etc/ssl/certs/ca-certificates.crt /runtime \
 && for package in libc6 libgcc-s1 ca-certificates; do \
      dpkg-query --status $package > /runtime/var/lib/dpkg/status.d/$package; \
    done \
 && echo 'hosts: files dns' > /runtime/etc/nsswitch.conf \
 && echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' > /runtime/etc/passwd \
 && echo 'nonroot:x:65532:' > /runtime/etc/group \
 && install --directory --mode 1777 /runtime/tmp

# The files of the repository that are in images. Their modes are set here, because a clone that was
# made with a strict umask has files that only their owner can read.
FROM ${DEBIAN_IMAGE} AS files
COPY LICENSE /files/license/
COPY envoy/bootstrap.yaml envoy/log-limit.yaml envoy/tls.yaml /files/envoy/
RUN chmod -R u=rwX,go=rX /files

FROM scratch AS base
COPY --from=runtime /runtime /
COPY --from=files /files/license /usr/share/doc/truenroll-edge
USER 65532:65532
ARG VERSION
ARG BUILD_REVISION
ARG SOURCE
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$BUILD_REVISION" \
      org.opencontainers.image.source="$SOURCE"

# The manifests, with an empty source for each library and each program.
FROM ${DEBIAN_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -path './.cargo/*' ! -name 'Cargo.*' ! -name lib.rs ! -name main.rs ! -path '*/src/bin/*' -delete \
 && find . -type f -path '*/src/bin/*/*' ! -name main.rs -delete \
 && find . -name '*.rs' -exec sh -c 'echo "#![allow(missing_docs)]" > "$1"' - '{}' ';' \
 && find . -name '*.rs' ! -name lib.rs -exec sh -c 'echo "fn main() { }" >> "$1"' - '{}' ';' \
 && find . -type d -empty -delete

# The dependencies, compiled for each program as it is built below: which features a crate has
# depends on the package that is built.
FROM ${RUST_IMAGE} AS dependencies
RUN rustup target add wasm32-unknown-unknown
WORKDIR /src
COPY --from=manifests /src .
RUN cargo build --locked --release --package envoy --bin guardctl
RUN cargo build --locked --release --package backend --bin backend --features otlp
RUN cargo build --locked --release --package simulator --bin sim
RUN cargo build --locked --profile wasm --package filter --features host --target wasm32-unknown-unknown

# In the stages below, `touch` makes the sources newer than the empty ones that were compiled above.
# Otherwise cargo would not compile them.
FROM dependencies AS guardctl-build
COPY envelope/src envelope/src
COPY envelope/vectors envelope/vectors
COPY envoy/src envoy/src
COPY envoy/bootstrap.yaml envoy/
ARG BUILD_REVISION
RUN find . -name '*.rs' -exec touch '{}' + \
 && cargo build --frozen --release --package envoy --bin guardctl

FROM ${ENVOY_IMAGE} AS envoy-binary

# Envoy, run by guardctl, which drains it before it stops.
FROM base AS envoy
COPY --from=envoy-binary /usr/local/bin/envoy /usr/local/bin/envoy
COPY --from=guardctl-build /src/target/release/guardctl /usr/local/bin/guardctl
COPY --from=files /files/envoy /etc/envoy
# A volume inherits the owner of the folder on which it is mounted.
COPY --from=runtime --chown=65532:65532 /empty /var/lib/edge
EXPOSE 8080 9902
ENTRYPOINT ["guardctl", "run", "--bootstrap", "/etc/envoy/bootstrap.yaml", "--", "envoy"]
CMD ["--disable-hot-restart", "--log-level", "warning"]
LABEL org.opencontainers.image.title="truenroll-edge-envoy" \
      org.opencontainers.image.description="Envoy for truenroll-edge, run and drained by guardctl"

FROM dependencies AS backend-build
COPY envelope/src envelope/src
COPY backend/config.default.toml backend/
COPY backend/templates backend/templates
COPY backend/src backend/src
ARG BUILD_REVISION
RUN find . -name '*.rs' -exec touch '{}' + \
 && cargo build --frozen --release --package backend --bin backend --features otlp

FROM base AS backend
COPY --from=backend-build /src/target/release/backend /usr/local/bin/backend
COPY --from=runtime --chown=65532:65532 /empty /run/edge
COPY --from=runtime --chown=65532:65532 /empty /var/spool/backend
EXPOSE 8081 9090
CMD ["backend", "serve"]
LABEL org.opencontainers.image.title="truenroll-edge-backend" \
      org.opencontainers.image.description="Stores TruEnroll's events, handles each once, and delivers the outcomes"

FROM dependencies AS simulator-build
COPY envelope/src envelope/src
COPY envelope/vectors envelope/vectors
COPY tests/simulator/src tests/simulator/src
ARG BUILD_REVISION
RUN find . -name '*.rs' -exec touch '{}' + \
 && cargo build --frozen --release --package simulator --bin sim

# The simulator of TruEnroll and of the partner's application, for demonstrations.
FROM base AS simulator
COPY --from=simulator-build /src/target/release/sim /usr/local/bin/sim
EXPOSE 8090
ENTRYPOINT ["sim"]
LABEL org.opencontainers.image.title="truenroll-edge-simulator" \
      org.opencontainers.image.description="Simulates TruEnroll and the partner's application"

FROM dependencies AS filter-build
COPY envelope/src envelope/src
COPY filter/src filter/src
ARG BUILD_REVISION
RUN find . -name '*.rs' -exec touch '{}' + \
 && cargo build --frozen --profile wasm --package filter --features host --target wasm32-unknown-unknown

# The filter's module alone, in the form that Istio and Envoy Gateway load.
FROM scratch AS module
COPY --from=filter-build /src/target/wasm32-unknown-unknown/wasm/filter.wasm /plugin.wasm
ARG VERSION
ARG BUILD_REVISION
ARG SOURCE
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$BUILD_REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.title="truenroll-edge-module" \
      org.opencontainers.image.description="The proxy-wasm filter of truenroll-edge"

# The filter's module, with guardctl, which publishes it, and Envoy, in which guardctl rehearses it.
FROM envoy AS filter
COPY --from=module /plugin.wasm /filter.wasm
COPY --from=runtime --chown=65532:65532 /empty /run/edge
# Resets those of Envoy's image.
ENTRYPOINT []
CMD ["guardctl", "publish", "--wasm", "/filter.wasm", "--policy", "/etc/edge/policy.toml", "--proof-file", "/run/edge/proof"]
LABEL org.opencontainers.image.title="truenroll-edge-filter" \
      org.opencontainers.image.description="The filter of truenroll-edge, and guardctl, which publishes it"
