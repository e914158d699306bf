# deploy-bridge.service: from events of the forge to runs of the CI.
import ../lib/app-module.nix {
  app = "bridge";
  key = "deploy-bridge";
  title = "bridge";
  host = "bridge.ci.commoninternet.net";
  port = 8080;
  path = "/health";
}
