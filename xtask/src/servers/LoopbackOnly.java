import java.lang.reflect.Field;
import java.util.Arrays;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import software.amazon.dynamodb.services.local.main.ServerRunner;
import software.amazon.dynamodb.services.local.server.DynamoDBProxyServer;

/**
 * DynamoDB Local on 127.0.0.1 alone: Amazon's own main class listens on every interface, and no option changes that.
 * Between making the server and starting it, the connectors of the Jetty inside are told their address. The options
 * are Amazon's.
 */
public final class LoopbackOnly {
    private LoopbackOnly() {}

    public static void main(String[] options) throws Exception {
        DynamoDBProxyServer service = ServerRunner.createServerFromCommandLineArgs(options);
        for (var connector : jettyOf(service).getConnectors()) {
            ((ServerConnector) connector).setHost("127.0.0.1");
        }
        service.start();
        service.join();
    }

    private static Server jettyOf(DynamoDBProxyServer service) throws ReflectiveOperationException {
        Field jetty = Arrays.stream(DynamoDBProxyServer.class.getDeclaredFields())
                .filter(field -> Server.class.isAssignableFrom(field.getType()))
                .findFirst()
                .orElseThrow(() -> new NoSuchFieldException("this version keeps its Jetty elsewhere"));
        jetty.setAccessible(true);
        return (Server) jetty.get(service);
    }
}
