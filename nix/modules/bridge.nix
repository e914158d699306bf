# deploy-bridge.service: the bridge, which starts CI runs on events of the forge.
import ../lib/app-module.nix {
  app = "bridge";
  key = "deploy-bridge";
  title = "bridge";
  host = "bridge.ci.commoninternet.net";
  port = 8080;
  path = "/health";
}
