# warm-keycloak.service: Keycloak, for log-ins. It takes a minute to start.
import ../lib/app-module.nix {
  app = "keycloak";
  key = "warm-keycloak";
  title = "Keycloak";
  host = "keycloak.ci.commoninternet.net";
  port = 8080;
  path = "/realms/master";
  deadline = 150;
}
