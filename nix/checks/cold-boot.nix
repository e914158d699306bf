# Two machines boot from scratch, with real systemd, Swarm and Traefik. One has the control plane;
# the other has the gate that deploy-proxy.service once had, which waits for the dashboard, which
# waits for deploy-proxy.service. Nothing is fetched: images and recipes are built here.
{ modules }:
{ pkgs, lib, ... }:
let
  host = "ci.commoninternet.net";
  version = "1.0.0+v${pkgs.traefik.version}";

  # With a shell and a web server, for the page that stands for the dashboard.
  image = pkgs.dockerTools.buildLayeredImage {
    name = "traefik";
    tag = "v${pkgs.traefik.version}";
    contents = [
      pkgs.traefik
      pkgs.busybox
    ];
    config = {
      Entrypoint = [ "/bin/traefik" ];
      Env = [ "PATH=/bin" ];
    };
  };

  # Releases as directories, with the Traefik that nixpkgs has.
  traefik = pkgs.runCommand "traefik-releases" { } ''
    mkdir -p $out
    cp -r ${../../recipes/traefik} "$out/${version}"
    chmod -R u+w $out
    sed -i 's/v[0-9.]*[0-9]$/v${pkgs.traefik.version}/; s/+v[0-9.]*"/+v${pkgs.traefik.version}"/' \
      "$out/${version}/compose.yml"
  '';
  dashboard = pkgs.writeTextDir "${version}/compose.yml" ''
    version: "3.8"
    services:
      app:
        image: traefik:v${pkgs.traefik.version}
        entrypoint: [sh, -c, "mkdir /page && echo dashboard > /page/index.html && exec httpd -f -p 8080 -h /page"]
        stop_grace_period: 1s
        networks: [proxy]
        deploy:
          labels:
            - "traefik.enable=true"
            - "traefik.http.routers.dashboard.rule=Host(`${host}`)"
            - "traefik.http.routers.dashboard.entrypoints=web-secure"
            - "traefik.http.routers.dashboard.tls=true"
            - "traefik.http.services.dashboard.loadbalancer.server.port=8080"
            - "coop-cloud.''${STACK_NAME}.version=${version}"
    networks:
      proxy:
        external: true
  '';

  engine = {
    virtualisation = {
      docker.enable = true;
      memorySize = 2048;
      diskSize = 4096;
    };
    environment.systemPackages = [ pkgs.curl ];
    systemd.services.swarm = {
      description = "A swarm of one, with the images of this test";
      after = [ "docker.service" ];
      requires = [ "docker.service" ];
      before = [
        "deploy-proxy.service"
        "deploy-dashboard.service"
      ];
      wantedBy = [ "multi-user.target" ];
      path = [ pkgs.docker-client ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script = ''
        docker load --input ${image}
        docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377
        docker network create --driver overlay --attachable proxy
      '';
    };
    services.deploy-dashboard.source = {
      kind = "directory";
      path = "${dashboard}";
    };
  };
in
{
  name = "warm-reconcile-cold-boot";

  nodes.fresh = {
    imports = [
      modules.proxy
      modules.dashboard
      modules.converge
      engine
    ];
    services.deploy-proxy.source = {
      kind = "directory";
      path = "${traefik}";
    };
    services.converge.verifyTls = false; # no authority signs anything here
  };

  nodes.old = {
    imports = [
      modules.dashboard
      engine
    ];
    # As it was: deploy, and wait until the dashboard answers. Only the time is shorter than 900 s.
    systemd.services.deploy-proxy = {
      wantedBy = [ "multi-user.target" ];
      after = [ "docker.service" ];
      path = [
        pkgs.docker-client
        pkgs.curl
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        TimeoutStartSec = 120;
      };
      script = ''
        cd "${traefik}/${version}"
        set -a; STACK_NAME=traefik; . ./abra.sh; set +a
        docker stack deploy --compose-file compose.yml traefik
        until curl --silent --fail --insecure --resolve ${host}:443:127.0.0.1 https://${host}/; do
          sleep 1
        done
      '';
    };
  };

  testScript = ''
    start_all()


    def show(machine, unit, name):
        return machine.succeed(f"systemctl show --property={name} --value {unit}").strip()


    with subtest("without the dashboard's help the proxy is up, and then all converges"):
        fresh.wait_for_unit("converge.service", timeout=600)
        for unit in ("deploy-proxy", "deploy-dashboard", "converge"):
            assert show(fresh, unit, "Result") == "success", unit
        ended = int(show(fresh, "deploy-proxy", "ActiveEnterTimestampMonotonic"))
        began = int(show(fresh, "deploy-dashboard", "InactiveExitTimestampMonotonic"))
        assert ended <= began, "the dashboard was not waited for"

    with subtest("the old gate waits for what waits for it, until its time is over"):
        old.wait_until_succeeds("systemctl is-failed deploy-proxy.service", timeout=600)
        assert show(old, "deploy-proxy", "Result") == "timeout"
        ended = int(show(old, "deploy-proxy", "InactiveEnterTimestampMonotonic"))
        began = int(show(old, "deploy-dashboard", "InactiveExitTimestampMonotonic"))
        assert began == 0 or began >= ended, "the dashboard did not wait"
  '';
}
