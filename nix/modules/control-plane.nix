# All units of the control plane, below one domain.
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkOption types;
  cfg = config.services.control-plane;
  below = name: { host = mkDefault "${name}.${cfg.domain}"; };
in
{
  imports = [
    ./proxy.nix
    ./dashboard.nix
    ./drone.nix
    ./warm-keycloak.nix
    ./reports.nix
    ./bridge.nix
    ./backupbot.nix
    ./converge.nix
    ./nightly-sweep.nix
  ];

  options.services.control-plane = {
    domain = mkOption {
      type = types.str;
      default = "ci.commoninternet.net";
      description = "The domain of the dashboard; all other host names are below it.";
    };
    email = mkOption {
      type = types.str;
      default = "";
      example = "ops@example.com";
      description = "For the certificate authority; if abra manages Traefik, its `.env` has it.";
    };
  };

  config.services = {
    deploy-proxy = below "traefik" // {
      email = mkDefault cfg.email;
    };
    deploy-dashboard.host = mkDefault cfg.domain;
    deploy-drone = below "drone";
    warm-keycloak = below "keycloak";
    deploy-reports = below "reports";
    deploy-bridge = below "bridge";
    converge.url = mkDefault "https://${cfg.domain}/";
  };
}
