# syntax=docker/dockerfile:1
#
# The images of Portcullis: one static program each, and nothing else but the trusted authorities. From the repository's root:
#
#   docker build --target controller --tag registry.example/portcullis-controller:0.1.0 .
#   docker build --target proxy      --tag registry.example/portcullis-proxy:0.1.0 .
#   docker build --target cli        --tag registry.example/portcullis:0.1.0 .
#
# The proxy is built without a profile of what it does, so it needs more CPU for each request than that of a release, which is trained
# first: see "A release" in CONTRIBUTING.md. It does the same.
#
# All three are built in the first stage, so that the second and third build take seconds. For another architecture build on it, or
# have buildx emulate it (--platform linux/arm64).

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The target is named although it is the host's: what runs during the build (build scripts, macros) must not be static.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    host="$(rustc --version --verbose | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --target "$host" --workspace \
        --bin portcullis-controller --bin portcullis-proxy --bin portcullis \
    && mkdir /out \
    && for program in portcullis-controller portcullis-proxy portcullis; do \
        strip -o "/out/$program" "target/$host/dist/$program" || exit 1; \
    done
# A root file system with a user and a place for temporary files.
RUN mkdir -p /rootfs/etc/ssl/certs \
    && mkdir -m 1777 /rootfs/tmp \
    && cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ \
    && printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' > /rootfs/etc/passwd \
    && printf 'root:x:0:\nnonroot:x:65532:\n' > /rootfs/etc/group

FROM scratch AS base
COPY --from=build /rootfs/ /
# By number: Kubernetes can then tell that it is not root.
USER 65532:65532
WORKDIR /
LABEL org.opencontainers.image.licenses="Apache-2.0"

FROM base AS controller
COPY --from=build /out/portcullis-controller /
LABEL org.opencontainers.image.title="portcullis-controller"
# Tables for the proxies; health and metrics.
EXPOSE 9443 9902
ENTRYPOINT ["/portcullis-controller"]

FROM base AS proxy
COPY --from=build /out/portcullis-proxy /
LABEL org.opencontainers.image.title="portcullis-proxy"
ENTRYPOINT ["/portcullis-proxy"]

FROM base AS cli
COPY --from=build /out/portcullis /
LABEL org.opencontainers.image.title="portcullis"
ENTRYPOINT ["/portcullis"]
